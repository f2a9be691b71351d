"""Grammatical minimal pairs: the same words before the choice, or the same choice before both words."""

from __future__ import annotations

from tools.suite.items import Item, Kind, grouped, sisters

NOUNS = (
    ("dog", "dogs"), ("teacher", "teachers"), ("house", "houses"), ("car", "cars"), ("tree", "trees"),
    ("child", "children"), ("book", "books"), ("letter", "letters"), ("window", "windows"), ("farmer", "farmers"),
    ("woman", "women"), ("ship", "ships"), ("flower", "flowers"), ("student", "students"), ("chair", "chairs"),
    ("doctor", "doctors"), ("mountain", "mountains"), ("horse", "horses"), ("picture", "pictures"), ("soldier", "soldiers"),
    ("bird", "birds"), ("river", "rivers"), ("song", "songs"), ("machine", "machines"), ("boy", "boys"),
)  # fmt: skip

AGREEMENT = (
    ("The {} on the left", "is", "are"),
    ("Last summer the {}", "was", "were"),
    ("The {} near the old buildings", "is", "are"),
    ("As you can see, the {}", "has", "have"),
    ("In the evening the {} by the road", "was", "were"),
)

REFLEXIVES = (
    (("The king looked in the mirror and saw", "himself"), ("The queen looked in the mirror and saw", "herself")),
    (("The man cut", "himself"), ("The woman cut", "herself")),
    (("My father made a cup of tea for", "himself"), ("My mother made a cup of tea for", "herself")),
    (("The boy was proud of", "himself"), ("The girl was proud of", "herself")),
    (("My brother asked", "himself"), ("My sister asked", "herself")),
    (("The prince bought a horse for", "himself"), ("The princess bought a horse for", "herself")),
    (("Her husband introduced", "himself"), ("His wife introduced", "herself")),
    (("The actor talked about", "himself"), ("The actress talked about", "herself")),
    (("My uncle fell and hurt", "himself"), ("My aunt fell and hurt", "herself")),
    (("His grandfather taught", "himself"), ("His grandmother taught", "herself")),
    (("The old gentleman lived by", "himself"), ("The old lady lived by", "herself")),
    (("Mr. Brown did all the work", "himself"), ("Mrs. Brown did all the work", "herself")),
    (("My son washed the dishes by", "himself"), ("My daughter washed the dishes by", "herself")),
    (("The boy washed", "himself"), ("The boys washed", "themselves")),
    (("The man blamed", "himself"), ("The men blamed", "themselves")),
    (("The farmer built a house for", "himself"), ("The farmers built a house for", "themselves")),
    (("The soldier hid", "himself"), ("The soldiers hid", "themselves")),
    (("The king found", "himself"), ("The kings found", "themselves")),
    (("The child dressed", "itself"), ("The children dressed", "themselves")),
    (("The dog hurt", "itself"), ("The dogs hurt", "themselves")),
    (("The teacher prepared", "himself"), ("The teachers prepared", "themselves")),
    (("A man must not think only of", "himself"), ("Men must not think only of", "themselves")),
    (("The thief turned and defended", "himself"), ("The thieves turned and defended", "themselves")),
    (("The brave man saved", "himself"), ("The brave men saved", "themselves")),
    (("The prince called", "himself"), ("The princes called", "themselves")),
)

NUMBERS = (
    ("I would like to buy this", "I would like to buy these"),
    ("There is only one", "There are at least two"),
    ("On the wall there was a picture of a single", "On the wall there was a picture of many"),
    ("He told me about that", "He told me about those"),
    ("She has drawn one", "She has drawn several"),
)

VERBS = (
    ("see", "saw"), ("go", "went"), ("take", "took"), ("give", "gave"), ("come", "came"), ("write", "wrote"),
    ("eat", "ate"), ("know", "knew"), ("find", "found"), ("make", "made"), ("buy", "bought"), ("sell", "sold"),
    ("think", "thought"), ("begin", "began"), ("drink", "drank"), ("speak", "spoke"), ("leave", "left"), ("hear", "heard"),
    ("sing", "sang"), ("lose", "lost"), ("build", "built"), ("drive", "drove"), ("teach", "taught"), ("win", "won"),
    ("choose", "chose"),
)  # fmt: skip

TENSES = (
    ("They did not", "Yesterday they"),
    ("You will", "Two years ago you"),
    ("We want to", "Last week we"),
    ("I cannot", "When I was young, I"),
    ("It is time to", "Last night he"),
)

SUBJECTS = ("The old man", "My sister", "A young woman", "The two friends", "Our teacher")
WALKS = (
    ("walked", "to", "the", "market"), ("looked", "at", "the", "moon"), ("waited", "for", "the", "train"),
    ("sat", "under", "a", "tree"), ("listened", "to", "the", "radio"), ("swam", "across", "the", "river"),
    ("lived", "in", "a", "village"), ("slept", "on", "the", "floor"), ("worked", "in", "a", "factory"),
    ("ran", "through", "the", "forest"),
)  # fmt: skip
ORDERS = ((1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0))


def agreement() -> Kind:
    items: list[Item] = []
    for place, (one, many) in enumerate(NOUNS):
        frame, singular, plural = AGREEMENT[place % len(AGREEMENT)]
        items += sisters(frame, [(frame.format(one), singular), (frame.format(many), plural)])
    return Kind("agreement", "verb that fits its subject", tuple(items))


def reflexives() -> Kind:
    items = (item for pair in REFLEXIVES for item in sisters("reflexive", pair))
    return Kind("reflexives", "pronoun that refers back", tuple(items))


def numbers() -> Kind:
    items: list[Item] = []
    for place, (one, many) in enumerate(NOUNS):
        single, several = NUMBERS[place % len(NUMBERS)]
        items += sisters(single, [(single, one), (several, many)])
    return Kind("numbers", "singular or plural noun", tuple(items))


def verb_forms() -> Kind:
    items: list[Item] = []
    for place, (base, past) in enumerate(VERBS):
        now, then = TENSES[place % len(TENSES)]
        items += sisters(now, [(now, base), (then, past)])
    return Kind("verb_forms", "verb form that the sentence needs", tuple(items))


def past_tenses() -> Kind:
    asked = [(f"The past tense of get is got. The past tense of {base} is", past) for base, past in VERBS]
    return Kind("past_tenses", "past tense of an irregular verb", tuple(grouped("past", asked[1:], 4)))


def word_order() -> Kind:
    items = []
    for place, subject in enumerate(SUBJECTS):
        for shift, walk in enumerate(WALKS):
            order = ORDERS[(place + shift) % len(ORDERS)]
            items.append(Item(f"order-{order}", subject, " ".join(walk), (" ".join(walk[at] for at in order),)))
    return Kind("word_order", "sentence in the right order", tuple(items))


KINDS = (agreement, reflexives, numbers, verb_forms, past_tenses, word_order)
