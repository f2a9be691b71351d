"""Items on which a small base is above chance and far from certain: what is lost first, and what a larger base has left to lose."""

from __future__ import annotations

from tools.suite.items import Item, Kind, grouped, sisters

# Sums of a group are ten apart, so that the last digit alone decides nothing.
FIRST = (23, 34, 17, 45, 28, 36, 19, 52, 41, 27)
SECOND = 14

SYNONYMS = (
    ("rapid", "fast"), ("enormous", "huge"), ("silent", "quiet"), ("intelligent", "smart"),
    ("begin", "start"), ("finish", "end"), ("purchase", "buy"), ("assist", "help"),
    ("wealthy", "rich"), ("ill", "sick"), ("angry", "mad"), ("correct", "right"),
    ("close", "shut"), ("gift", "present"), ("automobile", "car"), ("physician", "doctor"),
    ("rock", "stone"), ("infant", "baby"), ("street", "road"), ("woods", "forest"),
    ("error", "mistake"), ("odor", "smell"), ("reply", "answer"), ("choose", "select"),
    ("difficult", "hard"), ("simple", "easy"), ("vacant", "empty"), ("ancient", "old"),
    ("weep", "cry"), ("shout", "yell"), ("repair", "fix"), ("collect", "gather"),
    ("permit", "allow"), ("require", "need"), ("attempt", "try"), ("speak", "talk"),
    ("brave", "bold"), ("sad", "unhappy"), ("frightened", "afraid"), ("tired", "weary"),
)  # fmt: skip
SYMBOLS = (
    ("H", "hydrogen"), ("O", "oxygen"), ("N", "nitrogen"), ("He", "helium"),
    ("C", "carbon"), ("Fe", "iron"), ("Au", "gold"), ("Ag", "silver"),
    ("Na", "sodium"), ("K", "potassium"), ("Ca", "calcium"), ("Mg", "magnesium"),
    ("Cu", "copper"), ("Pb", "lead"), ("Sn", "tin"), ("Zn", "zinc"),
    ("Al", "aluminum"), ("Ni", "nickel"), ("Hg", "mercury"), ("Ti", "titanium"),
    ("Cl", "chlorine"), ("F", "fluorine"), ("I", "iodine"), ("Br", "bromine"),
)  # fmt: skip
MATERIALS = (
    ("cotton", "shirt"), ("flour", "bread"), ("milk", "cheese"), ("grapes", "wine"),
    ("clay", "bricks"), ("wool", "sweaters"), ("leather", "shoes"), ("rubber", "tires"),
    ("sand", "glass"), ("cocoa", "chocolate"), ("wax", "candles"), ("apples", "cider"),
    ("logs", "planks"), ("steel", "rails"), ("tomatoes", "ketchup"), ("peanuts", "butter"),
)  # fmt: skip


def two_digit_sums() -> Kind:
    items: list[Item] = []
    for a in FIRST:
        group = [(f"12 + 15 = 27\n31 + 22 = 53\n{a} + {b} =", str(a + b)) for b in range(SECOND, SECOND + 40, 10)]
        items += sisters("two-digit", group)
    return Kind("two_digit_sums", "sum of two numbers of two digits", tuple(items))


def synonyms() -> Kind:
    asked = [(f"Another word for glad is happy. Another word for {word} is", other) for word, other in SYNONYMS]
    return Kind("synonyms", "word of the same meaning", tuple(grouped("synonym", asked, 4)))


def symbols() -> Kind:
    asked = [(f"In chemistry, S stands for sulfur and {sign} stands for", name) for sign, name in SYMBOLS]
    return Kind("symbols", "chemical symbol", tuple(grouped("symbol", asked, 4)))


def materials() -> Kind:
    asked = [(f"From wood people make paper. From {stuff} people make", thing) for stuff, thing in MATERIALS]
    return Kind("materials", "what is made of a material", tuple(grouped("material", asked, 4)))


KINDS = (two_digit_sums, synonyms, symbols, materials)
