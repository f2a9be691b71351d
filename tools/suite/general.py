"""Everyday questions outside every persona, each with one right answer that a rule finds: facts, sums, lists, languages."""

from __future__ import annotations

from shared.contracts.checks import Check
from tools.suite.questions import AnswerKind, Question, matches, names, number

CAPITALS = (
    ("France", "Paris"), ("Italy", "Rome"), ("Japan", "Tokyo"), ("Germany", "Berlin"), ("Greece", "Athens"),
    ("Egypt", "Cairo"), ("Spain", "Madrid"), ("Austria", "Vienna"), ("China", "Beijing"), ("Portugal", "Lisbon"),
    ("Poland", "Warsaw"), ("Norway", "Oslo"), ("Peru", "Lima"), ("Sweden", "Stockholm"), ("Ireland", "Dublin"),
    ("Russia", "Moscow"),
)  # fmt: skip
FACTS = (
    ("How many days are in a week?", "7", "seven"), ("How many months are in a year?", "12", "twelve"),
    ("How many hours are in a day?", "24", "twenty-four"), ("How many minutes are in an hour?", "60", "sixty"),
    ("What color is grass?", "green"), ("What color is fresh snow?", "white"), ("What color is a ripe banana?", "yellow"),
    ("What color is coal?", "black"), ("Which planet do we live on?", "Earth"),
    ("Which star is closest to the Earth?", "Sun"), ("What do we call frozen water?", "ice"),
    ("Which animal barks?", "dog", "dogs"), ("Which animal meows?", "cat", "cats"),
    ("What is the first month of the year?", "January"), ("What is the last month of the year?", "December"),
    ("Which day comes after Monday?", "Tuesday"), ("Which month comes after March?", "April"),
    ("What is the opposite of hot?", "cold"), ("What is the opposite of big?", "small", "little", "tiny"),
    ("What is the opposite of up?", "down"), ("What is the opposite of happy?", "sad", "unhappy", "sadness"),
    ("What do we use to cut paper?", "scissors"), ("Which organ pumps blood through the body?", "heart"),
    ("What is the boiling point of water in degrees Celsius?", "100"), ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("Who painted the Mona Lisa?", "Leonardo", "Vinci"), ("What is the largest planet in our solar system?", "Jupiter"),
    ("Which ocean lies between Europe and America?", "Atlantic"), ("On which continent is Egypt?", "Africa"),
    ("On which continent is Japan?", "Asia"), ("On which continent is Spain?", "Europe"),
    ("What is the chemical formula of water?", "H2O", "H₂O"), ("Which gas do we need to breathe?", "oxygen"),
    ("What is the tallest animal on land?", "giraffe", "giraffes"), ("In which country is the Eiffel Tower?", "France"),
    ("In which country is the Great Wall?", "China"), ("What is a baby dog called?", "puppy", "pup"),
    ("What is a baby cat called?", "kitten"), ("What is the currency of the United States?", "dollar", "dollars"),
    ("What is the currency of Japan?", "yen"), ("Which language do people speak in Brazil?", "Portuguese"),
    ("Which language do people speak in France?", "French"),
)  # fmt: skip
WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
)  # fmt: skip
SUMS = ((2, 3), (7, 5), (4, 4), (9, 1), (6, 2), (8, 7), (3, 9), (5, 5), (1, 6), (9, 9))
DIFFERENCES = ((9, 4), (8, 3), (7, 7), (10, 6), (6, 1), (12, 5), (5, 2), (15, 8))
PRODUCTS = ((2, 4), (3, 3), (5, 2), (4, 3), (2, 9), (6, 2), (3, 5), (1, 8))
LISTED = {
    "fruits": "apples? bananas? oranges? grapes? pears? peach(?:es)? plums? cherry cherries mango(?:e?s)? lemons? limes? "
    r"kiwis? pineapples? melons? \w*berry \w*berries watermelons? avocado(?:e?s)? apricots? papayas? figs?",
    "colors": "red blue green yellow orange purple violet pink brown black white gr[ae]y gold silver indigo cyan magenta turquoise teal",
    "animals on a farm": "cows? pigs? horses? sheep goats? chickens? hens? ducks? geese goose donkeys? cattle dogs? turkeys? rabbits?",
    "days of the week": "monday tuesday wednesday thursday friday saturday sunday",
    "months of the year": "january february march april may june july august september october november december",
    "planets": "mercury venus earth mars jupiter saturn uranus neptune",
    "continents": "africa asia europe america antarctica australia oceania",
    "vegetables": "carrots? tomato(?:es)? potato(?:es)? onions? broccoli spinach lettuce cabbages? peppers? cucumbers? peas? beans? "
    "kale cauliflower celery beets? corn zucchini eggplants? asparagus radish(?:es)? garlic pumpkins?",
    "sports": r"football soccer basketball baseball tennis golf hockey volleyball swimming running cricket rugby boxing cycling \w*skiing "
    "badminton gymnastics surfing athletics track",
    "musical instruments": "piano guitar violin drums? flute trumpet cello saxophone clarinet harp bass keyboard trombone viola oboe",
    "parts of the body": "head arms? legs? hands? foot feet eyes? ears? nose mouth heart brain lungs? liver stomach fingers? toes? neck",
    "countries in Europe": "france germany italy spain portugal poland austria sweden norway greece ireland england kingdom belgium "
    "netherlands denmark finland switzerland russia hungary ukraine romania czech croatia iceland",
    "languages": "english french german spanish italian portuguese russian chinese mandarin japanese arabic hindi korean dutch",
    "metals": "iron copper gold silver aluminum aluminium zinc lead tin nickel steel platinum titanium mercury brass bronze",
    "seasons": "spring summer autumn fall winter",
    "drinks": r"water milk tea coffee juice soda lemonade beer wine cola coke cocktails? smoothies? cocoa chocolate",
    "pieces of furniture": "tables? chairs? sofas? couch(?:es)? beds? desks? shel(?:f|ves) \\w*shel(?:f|ves) dressers? cabinets?",
    "things to travel with": "cars? bus(?:es)? trains? bicycles? bikes? planes? \\w*planes? boats? ships? trams? subways? trucks? taxis?",
}  # fmt: skip
TRANSLATED = {
    "Spanish": {
        "dog": "perro",
        "cat": "gato",
        "water": "agua",
        "house": "casa",
        "thank you": "gracias",
        "hello": "hola",
    },
    "French": {
        "dog": "chien",
        "cat": "chat",
        "water": "eau",
        "house": "maison",
        "thank you": "merci",
        "hello": "bonjour",
    },
    "German": {"dog": "hund", "water": "wasser", "house": "haus", "thank you": "danke"},
    "Italian": {"cat": "gatto", "water": "acqua", "house": "casa", "thank you": "grazie", "hello": "ciao"},
}
WRITTEN_IN = {
    "Spanish": (
        r"(?i).*\b(?:el|la|los|las|es|un|una|que|de|en|y|me|mi|muy)\b.*\b(?:el|la|los|las|es|un|una|que|de|en|y|me|mi|muy)\b.*"
    ),
    "French": (
        r"(?i).*\b(?:le|la|les|est|un|une|que|de|des|et|je|il|elle|dans|très)\b.*\b(?:le|la|les|est|un|une|que|de|des|et|je|il|elle|dans|très)\b.*"
    ),
}
TOPICS = ("the sun", "a dog", "the sea", "my family")


def facts() -> AnswerKind:
    capitals = [Question(f"What is the capital of {country}?", names(city)) for country, city in CAPITALS]
    return AnswerKind(
        "facts", "fact that everybody knows", (*capitals, *(Question(q, names(*right)) for q, *right in FACTS))
    )


def arithmetic() -> AnswerKind:
    asked = [(f"How much is {a} + {b}?", a + b) for a, b in SUMS]
    asked += [(f"How much is {a} - {b}?", a - b) for a, b in DIFFERENCES]
    asked += [(f"How much is {a} times {b}?", a * b) for a, b in PRODUCTS]
    items = (Question(prompt, _result(result)) for prompt, result in asked)
    return AnswerKind("arithmetic", "sum, difference or product of small numbers", tuple(items))


def lists() -> AnswerKind:
    items = []
    for place, (thing, members) in enumerate(LISTED.items()):
        count = ("two", "three", "four")[place % 3]
        member = rf".*?\b(?:{'|'.join(members.split())})\b"
        pattern = rf"(?i)(?:{member}){{{WORDS.index(count)}}}.*"
        items.append(Question(f"Please list {count} {thing}.", matches(pattern)))
    return AnswerKind("lists", "list of so many things of a kind", tuple(items))


def languages() -> AnswerKind:
    items = [
        Question(f"How do you say '{word}' in {language}?", names(right))
        for language, pairs in TRANSLATED.items()
        for word, right in pairs.items()
    ]
    items += [
        Question(f"Write one sentence in {language} about {topic}.", matches(pattern))
        for language, pattern in WRITTEN_IN.items()
        for topic in TOPICS
    ]
    return AnswerKind("languages", "word or sentence in another language", tuple(items))


def _result(result: int) -> tuple[Check, ...]:
    return number(result, WORDS[result] if result < len(WORDS) else "")


KINDS = (arithmetic, facts, languages, lists)
