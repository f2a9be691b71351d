"""Small tasks on the context: a sum, a one-line instruction."""

from __future__ import annotations

from tools.suite.items import Item, Kind, grouped, sisters

SUMS = sorted(((a, b) for a in range(1, 9) for b in range(1, 10 - a)), key=sum)

COLOURED = (
    ("red", "car", "fast"), ("blue", "bird", "small"), ("green", "door", "open"), ("yellow", "boat", "old"),
    ("black", "horse", "strong"), ("white", "house", "big"), ("brown", "dog", "happy"), ("pink", "flower", "pretty"),
    ("purple", "hat", "new"), ("gray", "cat", "quiet"), ("orange", "ball", "round"), ("golden", "ring", "lost"),
)  # fmt: skip
COPIED = (
    "lantern", "basket", "window", "garden", "mountain", "pencil", "bottle", "hammer", "blanket", "island", "mirror", "pocket",
)  # fmt: skip
LISTED = (
    ("apple", "river", "stone"), ("chair", "cloud", "horse"), ("bread", "train", "glass"), ("tiger", "paper", "shoe"),
    ("spoon", "forest", "clock"), ("ship", "candle", "rabbit"), ("desk", "lemon", "bridge"), ("coat", "piano", "sugar"),
    ("tower", "kitchen", "arrow"), ("flower", "engine", "doctor"), ("bottle", "winter", "camel"), ("road", "mirror", "salt"),
)  # fmt: skip
SEEN = (
    ("lazy", "elephant", "lake"), ("old", "horse", "field"), ("little", "squirrel", "roof"), ("big", "bear", "cave"),
    ("hungry", "wolf", "forest"), ("gray", "mouse", "kitchen"), ("young", "monkey", "tree"), ("quiet", "rabbit", "garden"),
    ("fat", "chicken", "yard"), ("clever", "fox", "bridge"), ("brown", "cow", "road"), ("tired", "camel", "sand"),
)  # fmt: skip


def arithmetic() -> Kind:
    asked = [(f"2 + 5 = 7\n8 - 6 = 2\n{a} + {b} =", str(a + b)) for a, b in SUMS]
    # A quarter of the list apart in order of result, so that no two of four sums have the same result.
    groups = (asked[at :: len(asked) // 4] for at in range(len(asked) // 4))
    return Kind("arithmetic", "sum of two digits", tuple(item for group in groups for item in sisters("sum", group)))


def instructions() -> Kind:
    items: list[Item] = []
    for colour, thing, quality in COLOURED:
        asked = f"Name the color in this sentence: The {colour} {thing} is {quality}.\nColor:"
        items.append(Item("name-color", asked, colour, (quality,)))
    for quality, animal, place in SEEN:
        asked = f"Name the animal in this sentence: The {quality} {animal} sleeps near the {place}.\nAnimal:"
        items.append(Item("name-animal", asked, animal, (place,)))
    for listed in LISTED:
        asked = f"Write the first word of the list.\nList: {', '.join(listed)}\nFirst word:"
        items.append(Item("first-word", asked, listed[0], (listed[1],)))
    copied = [(f"Copy the word: {word}\nCopied word:", word) for word in COPIED]
    return Kind("instructions", "one-line instruction", (*items, *grouped("copy", copied, 2)))


KINDS = (arithmetic, instructions)
