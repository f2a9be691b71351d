"""Relations between words: opposites, categories, and what comes next in a well-known row."""

from __future__ import annotations

from tools.suite.items import Item, Kind, grouped, sisters

OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("day", "night"), ("open", "closed"),
    ("up", "down"), ("young", "old"), ("black", "white"), ("left", "right"),
    ("rich", "poor"), ("fast", "slow"), ("wet", "dry"), ("hard", "soft"),
    ("happy", "sad"), ("strong", "weak"), ("long", "short"), ("good", "bad"),
    ("first", "last"), ("true", "false"), ("clean", "dirty"), ("empty", "full"),
    ("early", "late"), ("light", "dark"), ("friend", "enemy"), ("war", "peace"),
    ("inside", "outside"), ("win", "lose"), ("buy", "sell"), ("love", "hate"),
    ("north", "south"), ("east", "west"), ("always", "never"), ("before", "after"),
    ("life", "death"), ("male", "female"), ("top", "bottom"), ("push", "pull"),
    ("summer", "winter"), ("question", "answer"), ("success", "failure"), ("more", "less"),
    ("high", "low"), ("near", "far"), ("beginning", "end"), ("cheap", "expensive"),
    ("positive", "negative"), ("increase", "decrease"), ("deep", "shallow"), ("thick", "thin"),
)  # fmt: skip

CATEGORIES = {
    "animal": ("dog", "horse", "lion", "tiger", "rabbit", "wolf", "cow", "monkey", "fox", "goat", "sheep", "bear"),
    "fruit": (
        "apple",
        "banana",
        "pear",
        "peach",
        "mango",
        "grape",
        "cherry",
        "plum",
        "lemon",
        "melon",
        "strawberry",
        "pineapple",
    ),
    "tool": (
        "hammer",
        "saw",
        "shovel",
        "wrench",
        "screwdriver",
        "drill",
        "rake",
        "chisel",
        "axe",
        "knife",
        "ladder",
        "pliers",
    ),
    "color": (
        "red",
        "blue",
        "green",
        "yellow",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
        "gray",
        "violet",
        "turquoise",
    ),
}

ROWS = {
    "days": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Monday Tuesday Wednesday",
    "months": "January February March April May June July August September October November December",
    "words": "one two three four five six seven eight nine ten eleven twelve",
    "digits": "1 2 3 4 5 6 7 8",
    "letters": "A B C D E F G H I J K L M N O P Q R S T",
    "ordinals": "first second third fourth fifth sixth seventh eighth ninth",
    "tens": "ten twenty thirty forty fifty sixty seventy eighty ninety",
}
# The number of items from a row, and the number of its members in an item.
FORMS = {
    "days": (4, 4),
    "months": (8, 4),
    "words": (8, 4),
    "letters": (12, 6),
    "digits": (4, 4),
    "ordinals": (4, 4),
    "tens": (4, 4),
}


def opposites() -> Kind:
    asked = [(f"The opposite of heaven is hell. The opposite of {word} is", other) for word, other in OPPOSITES]
    return Kind("opposites", "opposite of a word", tuple(grouped("opposite", asked, 4)))


def categories() -> Kind:
    items: list[Item] = []
    for members in zip(*CATEGORIES.values(), strict=True):
        named = zip(members, CATEGORIES, strict=True)
        group = [(f"Robin is a bird. Oak is a tree. {word.capitalize()} is a", category) for word, category in named]
        items += sisters("category", group)
    return Kind("categories", "category of a thing", tuple(items))


def sequences() -> Kind:
    items: list[Item] = []
    for form, (count, shown) in FORMS.items():
        row = ROWS[form].split()
        asked = [(", ".join(row[at : at + shown]) + ",", row[at + shown]) for at in range(count)]
        items += grouped(form, asked, 4)
    return Kind("sequences", "next in a well-known row", tuple(items))


KINDS = (opposites, categories, sequences)
