"""Simple facts of the world and plausible endings of sentences."""

from __future__ import annotations

from tools.suite.items import Kind, Sister, grouped, sisters

CAPITALS = (
    ("France", "Paris"), ("Italy", "Rome"), ("Japan", "Tokyo"), ("Russia", "Moscow"),
    ("Germany", "Berlin"), ("Greece", "Athens"), ("Egypt", "Cairo"), ("Ireland", "Dublin"),
    ("Spain", "Madrid"), ("Austria", "Vienna"), ("China", "Beijing"), ("Cuba", "Havana"),
    ("England", "London"), ("Portugal", "Lisbon"), ("Iran", "Tehran"), ("Poland", "Warsaw"),
    ("Norway", "Oslo"), ("Hungary", "Budapest"), ("Iraq", "Baghdad"), ("Peru", "Lima"),
    ("Kenya", "Nairobi"), ("Sweden", "Stockholm"), ("Belgium", "Brussels"), ("Denmark", "Copenhagen"),
)  # fmt: skip

LANGUAGES = (
    ("France", "French"), ("Germany", "German"), ("Japan", "Japanese"), ("Mexico", "Spanish"),
    ("Russia", "Russian"), ("Italy", "Italian"), ("Brazil", "Portuguese"), ("China", "Chinese"),
    ("Greece", "Greek"), ("Sweden", "Swedish"), ("Australia", "English"), ("Egypt", "Arabic"),
)  # fmt: skip

YOUNG = (
    ("puppy", "dog"), ("kitten", "cat"), ("calf", "cow"), ("lamb", "sheep"),
    ("foal", "horse"), ("piglet", "pig"), ("cub", "bear"), ("chick", "hen"),
    ("tadpole", "frog"), ("duckling", "duck"), ("fawn", "deer"), ("gosling", "goose"),
)  # fmt: skip

ENDINGS: tuple[tuple[Sister, Sister], ...] = (
    (("He was thirsty, so he drank a glass of", "water"), ("He was cold, so he put on his warm", "coat")),
    (("It began to rain, so she opened her", "umbrella"), ("It was dark, so she lit a", "candle")),
    (("She was hungry and ate a", "sandwich"), ("She was tired and went to", "bed")),
    (("To open the locked door he needed a", "key"), ("To cut the bread he needed a", "knife")),
    (("The children built a castle out of", "sand"), ("The children made a snowman out of", "snow")),
    (("He wrote his name with a", "pen"), ("He swept the floor with a", "broom")),
    (("She went to the library to borrow a", "book"), ("She went to the bakery to buy fresh", "bread")),
    (("The baby was hungry and began to", "cry"), ("The joke was funny and they began to", "laugh")),
    (("The pilot landed the", "plane"), ("The fisherman caught a", "fish")),
    (("The dog barked at the", "cat"), ("The lawyer argued in the", "court")),
    (("He broke his leg and was taken to the", "hospital"), ("He robbed a bank and was taken to", "prison")),
    (("The plane took off from the", "airport"), ("The train left from the", "station")),
    (("She washed her hands with", "soap"), ("She sweetened her tea with", "sugar")),
    (("The ship sailed across the", "ocean"), ("The climbers reached the top of the", "mountain")),
    (("The farmer planted the seeds in the", "soil"), ("The postman put the letter in the", "mailbox")),
    (("He turned on the lamp because it was", "dark"), ("He turned on the heater because it was", "cold")),
    (("The soup was too hot and burned her", "tongue"), ("The shoes were too small and hurt her", "feet")),
    (("At the zoo we saw a big gray", "elephant"), ("At the airport we saw a big jet", "plane")),
    (
        ("The student failed the exam because he did not", "study"),
        ("The plant died because nobody gave it any", "water"),
    ),
    (("To see far away stars they use a", "telescope"), ("To hit a nail they use a", "hammer")),
    (("On her birthday she blew out the candles on the", "cake"), ("On Sunday morning they went to", "church")),
    (("The bride wore a white", "dress"), ("The king wore a golden", "crown")),
    (("The musician played the", "piano"), ("The painter finished the", "portrait")),
    (("He forgot his wallet and had no", "money"), ("He could not sleep because of the loud", "noise")),
    (("The team scored a", "goal"), ("The magician performed a", "trick")),
)


def facts() -> Kind:
    capitals = [(f"The capital of {country} is", city) for country, city in CAPITALS]
    languages = [(f"The language that most people speak in {country} is", language) for country, language in LANGUAGES]
    young = [(f"A {name} is a young", animal) for name, animal in YOUNG]
    items = (*grouped("capital", capitals, 4), *grouped("language", languages, 4), *grouped("young", young, 4))
    return Kind("facts", "simple fact of the world", items)


def endings() -> Kind:
    items = (item for pair in ENDINGS for item in sisters("ending", pair))
    return Kind("endings", "plausible end of a sentence", tuple(items))


KINDS = (facts, endings)
