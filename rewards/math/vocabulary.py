"""Closed lists of words: number words, words that change a number, countable things, and fixed phrases."""

from __future__ import annotations

import re
from fractions import Fraction

COUNTABLE = frozenset(
    """
    acorn adult airplane album alligator angle animal answer ant apartment app appetizer apple arc area arrangement arrow
    article artist artwork assignment athlete atom attempt author baby baker bag bagel ball balloon banana band bandage
    bar barrel base baseball basket basketball bat batch bath battery beach bead bean bear bed bedroom bee beetle bell
    belt bench berry bike bicycle bill bird biscuit bit block blouse blueberry boat bolt bone bonus book bookmark bottle
    bouquet bowl box boy bracelet branch bread brick bridge brother brownie brush bucket bud bug building bulb bun
    bundle burger bus bush business businesses butterfly button byte cabbage cabin cactus cage cake calculator calf call
    calorie camel camera can candle candy canoe cap car card carnation carpet carrot cart carton case cat caterpillar
    cell chair champion chapter character cheese cheesecake chef cherry chicken child children chip chocolate
    choice chord circle citizen city class classmate classroom client clock cloud clove clown club coach coat coconut
    coin collection color column combination company component computer cone container contestant cookie copy corn corner
    costume cottage couch country coupon course cousin cow crab cracker crane crate crayon cricket croissant crow cub cube
    cucumber cup cupcake curtain customer cut daisy dance dancer date daughter deer desk dessert diagonal dice dime dinner
    dinosaur dish distribution division divisor doctor dog doll dolphin donation donkey donut door doughnut drawer drawing
    dress drink driver drop drum duck duckling eagle ear earring edge egg eggplant element elephant email employee
    envelope episode equation eraser error event exam exercise eye face fact factor family fan farm farmer fence field
    figure figurine file finger fireworks fish flag flamingo flash flea flight floor flower flyer fly folder follower
    fork fox fraction friend frog fruit function game gap garden gate geese gem ghost gift giraffe girl glass glasses globe
    glove goal goat goldfish golfball goose gorilla grade grandchild grandchildren grape graph grape group guard guess guest
    guitar gumball guppy hamburger hamster hand hat head heart hen hexagon hike hippo hole home horse hotdog house
    icecream individual infant ingredient insect instrument integer intersection item jacket jar jean jellybean jersey jewel
    joke journal jug jump kangaroo key keychain kid kite kitten knife knives ladder lamb lamp lane lap laptop layer leaf
    league leave leaves leg lego lemon lesson letter level lightbulb lily line lion lizard lollipop loss losses machine
    magazine magnet man mango manual map marble mark marker marshmallow mask match matchstick mat matrix meal meatball medal
    meeting melon member men message mice milkshake mistake model monkey monster monument mosquito motorcycle mountain
    mouse movie muffin mug mushroom nail name napkin necklace needle neighbor nephew newspaper nickel niece night notebook
    note novel number nurse nut object octopus omelet onion operation orange orchid order orphan outcome outfit oven owl
    pack package packet page painter painting pamphlet pan pancake panda paper paperclip parabola parent park parrot
    participant particle partition party passenger passport pastry patch path pathway patient pattern peach peanut pear pea
    pebble peel pen pencil penguin penny pennies people pepper perimeter permutation person persons pet petal phone
    photo photograph piano picture pie piece pig pigeon pile pill pillow pineapple pin pirate pitch pizza place plane
    planet plant plate player pocket poem point polygon pond pony pool popsicle possibility post postcard poster pot potato
    present prime prisoner prize problem product program project puddle pumpkin pup puppy purse puzzle 
    question quilt quiz rabbit race racer radish raffle rat rectangle record region represent ribbon ring river road
    robin robot rock rod roll room root rope rose round route row ruler runner sailor sandwich scarf scarves school
    scientist scoop screw seal seashell seat section seed segment selection sentence serving sequence set shark sheep sheet
    shelf shelves shell ship shirt shoe shop shot shovel shrimp side sign signature singer sister skateboard skater skirt
    skunk slice slide snack snail snake snowball snowflake sock soda sofa soldier solution son song soup spaceship spider spoon
    spot square stair stall stamp star state station statue steak stem step stick sticker stone store story straw
    strawberry street string stripe student subject subset suit suitcase sum sunflower surfer swan sweater sweet swimmer
    symbol table tablet tail tank task taxi tea teacher team teddy telescope television tent term test text ticket tie tiger
    tile tin tire toddler toffee token tomato tool tooth teeth toothbrush toothpick topping toss tourist towel tower town
    toy track train tray treat tree triangle trick trip trophy trout truck trumpet tub tube tulip turkey turn turtle tv
    umbrella uncle uniform unit valentine value van vase vegetable vehicle vertex vertices vest video village violet violin
    visit visitor vote voter vowel wagon walnut wall watch watermelon wave way wheel whale widget win window wing wolf
    wolves woman women word worker workout worm yoyo zebra zombie
    """.split()
)
"""Things that are counted, in the singular: a number of them is that number. A closed list on purpose, so
that `12 dozen`, `3 squared` and `5 below zero` are not the numbers 12, 3 and 5."""

_IRREGULAR = {"children": "child", "people": "person", "men": "man", "women": "woman", "mice": "mouse", "geese": "goose",
              "teeth": "tooth", "vertices": "vertex", "matrices": "matrix", "knives": "knife", "leaves": "leaf",
              "loaves": "loaf", "wolves": "wolf", "shelves": "shelf", "scarves": "scarf", "feet": "foot",
              "classes": "class", "losses": "loss", "glasses": "glass", "dresses": "dress",
              "grandchildren": "grandchild", "calves": "calf", "inches": "inch",
              "businesses": "business"}  # fmt: skip


def singular(word: str) -> str:
    """The singular of an English noun, by rule."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or not word.endswith("s") or word.endswith("ss"):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y" if word[:-3] + "y" in COUNTABLE else word[:-1]
    if word.endswith(("ches", "shes", "xes", "sses", "zzes", "oes")):
        return word[:-2]
    return word[:-1]


SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
          "lakh": 10**5, "crore": 10**7, "gross": 144, "score": 20}  # fmt: skip
"""Words after a number that multiply it."""

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
_ONES += "eighteen nineteen"
NUMBER_WORDS = {name: value for value, name in enumerate(_ONES.split())}
NUMBER_WORDS |= {name: 10 * at for at, name in enumerate(
    "twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)}  # fmt: skip
NUMBER_WORDS |= {"fourty": 40}
_ORDINALS = {"third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
             "eleventh": 11, "twelfth": 12, "hundredth": 100, "thousandth": 1000, "twentieth": 20}  # fmt: skip
_PARTS = {"half": 2, "halve": 2, "quarter": 4, **_ORDINALS}
_ORDINAL_VALUES = {"first": 1, "second": 2, **_ORDINALS}

CHANGES_NUMBER = frozenset(
    """
    dozen dozens pair pairs couple couples hundred hundreds thousand thousands million millions billion billions trillion
    ten tens one ones half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths
    eighth eighths ninth ninths tenth tenths hundredth hundredths thousandth thousandths squared cubed square cube root
    below above zero negative minus plus times double triple twice thrice percent percentage percentages mod modulo base
    more less than or and to not no at least most about around approximately nearly almost over under up down per out of
    factorial infinity power reciprocal inverse opposite fraction ratio score gross lakh crore decade decades
    century centuries if when where unless except but off wrong false incorrect each every other remainder
    """.split()
)
"""Words after a number that may change it: with one of them the rest is no name of what is counted."""


def number_in_words(text: str) -> Fraction | None:
    """`twenty-five`, `one hundred and five`, `minus two thirds`, `three and a half`; None if it is no number."""
    words = re.sub(r"[-\s]+", " ", text.lower().strip()).split()
    sign = 1
    if words and words[0] in ("minus", "negative"):
        sign, words = -1, words[1:]
    if not words or len(words) > 14:
        return None
    if words == ["half"] or words == ["quarter"]:
        words = ["a", *words]
    value = _with_fraction(words)
    return None if value is None else sign * value


def _with_fraction(words: list[str]) -> Fraction | None:
    last = singular(words[-1])
    if last in _PARTS and len(words) >= 2:
        if "and" in words:
            at = words.index("and")
            whole, top = _cardinal(words[:at]), _count(words[at + 1 : -1])
            if whole is not None and top is not None and top < _PARTS[last]:
                return whole + Fraction(top, _PARTS[last])
            return None
        top = _count(words[:-1])
        return None if top is None else Fraction(top, _PARTS[last])
    value = _cardinal(words)
    return None if value is None else Fraction(value)


def _count(words: list[str]) -> int | None:
    return 1 if words in (["a"], ["an"]) else _cardinal(words)


def _cardinal(words: list[str]) -> int | None:
    """An integer in words, `and` allowed after hundreds and thousands."""
    total = current = 0
    previous = ""
    for at, word in enumerate(words):
        if word == "and":
            if previous not in SCALES or at == len(words) - 1:
                return None
        elif word in NUMBER_WORDS:
            value = NUMBER_WORDS[word]
            tens = previous in NUMBER_WORDS and NUMBER_WORDS[previous] >= 20 and 0 < value < 10
            if previous in NUMBER_WORDS and not tens:
                return None
            current += value
        elif word == "a" and at == 0 and len(words) > 1:
            current = 1
        elif word in ("hundred", "dozen"):
            if not current or previous in SCALES:
                return None
            current *= SCALES[word]
        elif word in ("thousand", "million", "billion", "trillion"):
            if not current:
                return None
            total, current = total + current * SCALES[word], 0
        else:
            return None
        previous = word if word != "and" else previous
    return total + current if words else None


def ordinal(text: str) -> int | None:
    """`5th`, `twenty-first`, `third`: the place; None if it is no ordinal."""
    match = re.fullmatch(r"(\d+)\s*(?:\^\s*\{?\s*)?[⟦]?(st|nd|rd|th)[⟧]?\s*\}?", text.strip().lower())
    if match:
        return int(match[1])
    words = re.sub(r"[-\s]+", " ", text.lower().strip()).split()
    if not words or words[-1] not in _ORDINAL_VALUES:
        return None
    before = _cardinal(words[:-1]) if words[:-1] else 0
    if before is None or (before and before % 10):
        return None
    return before + _ORDINAL_VALUES[words[-1]]


_PHRASES = [
    """no solution; no solutions; there is no solution; there are no solutions; no real solution; no real solutions;
    has no solution; none exist; the equation has no solution; the system has no solution; no such solution; inconsistent;
    emptyset; empty set; the empty set; varnothing; no solution exists; no solutions exist; null set; nosolution;
    the system is inconsistent; inconsistent system""",
    """does not exist; dne; limit does not exist; the limit does not exist; it does not exist; doesn't exist;
    undefined; not defined; is undefined; do not exist; no limit; not exist; diverges to no limit""",
    "none; none of the above; none of these; none of the options",
    "infinity; infty; inf; positive infinity",
    "true; yes; correct",
    "false; no; incorrect",
    """infinitely many; infinite; infinitely many solutions; infinite solutions; infinite number of solutions;
    an infinite number of solutions; there are infinitely many solutions; infinitely many solution""",
    """all real numbers; the set of all real numbers; all reals; set of all real numbers; all real;
    every real number; any real number; all x; the real numbers; all real x""",
    "converges; convergent; it converges; the series converges; is convergent; series converges",
    "diverges; divergent; it diverges; the series diverges; is divergent; series diverges",
    "even; even function; it is even; the function is even",
    "odd; odd function; it is odd; the function is odd",
    "neither; neither even nor odd",
    """impossible; not possible; it is impossible; it is not possible; cannot be done""",
    "increasing; increases; it is increasing", "decreasing; decreases; it is decreasing",
    "quadrant i; first quadrant; i quadrant; the first quadrant; quadrant 1",
    "quadrant ii; second quadrant; ii quadrant; the second quadrant; quadrant 2",
    "quadrant iii; third quadrant; iii quadrant; the third quadrant; quadrant 3",
    "quadrant iv; fourth quadrant; iv quadrant; the fourth quadrant; quadrant 4",
]
PHRASES = {phrase: kind for kind, group in enumerate(_PHRASES) for phrase in re.split(r";\s*", " ".join(group.split()))}
"""Fixed phrases, and which of them say the same."""

DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = (
    "january february march april may june july august september october november december".split()
)
_SHORT = {name[:3]: name for name in (*DAYS, *MONTHS)} | {"tues": "tuesday", "thurs": "thursday", "sept": "september"}
_ARTICLES = {"the", "a", "an", "it", "is", "on", "in"}


def plain_words(words: list[str]) -> list[str]:
    """Words without articles, days and months in full."""
    kept = [_SHORT.get(word, word) if len(words) == 1 else word for word in words]
    without = [word for word in kept if word not in _ARTICLES]
    return without or kept
