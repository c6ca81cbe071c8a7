"""Sentences of the sentiment reviews, and the words that carry sentiment.

Each sentence expresses one class by one verdict word of its own. Held-out
sentences use the verdict words of the training sentences in other frames: the
two groups share no four consecutive words outside the slots, over all classes.
"""

from .._template import Template

CLASSES = ("positive", "negative", "neutral")

VERDICTS = {
    "positive": "love recommend delighted impressed thrilled happy enjoy glad",
    "negative": "hate regret disappointed annoyed unhappy dislike avoid frustrated",
    "neutral": (
        "okay indifferent acceptable adequate passable undecided tolerable unmoved"
    ),
}

# A strong word agrees with the sentiment more often than a mild one.
ADJECTIVES = {
    ("positive", "strong"): (
        "excellent superb wonderful brilliant fantastic perfect amazing outstanding"
    ),
    ("positive", "mild"): "good nice pleasant neat lovely handy useful smart",
    ("negative", "strong"): (
        "terrible awful horrible dreadful useless atrocious disastrous hopeless"
    ),
    ("negative", "mild"): "weak poor dull clumsy flimsy sloppy shabby faulty",
    ("neutral", "strong"): (
        "average ordinary standard unremarkable middling typical regular conventional"
    ),
    ("neutral", "mild"): "plain basic common simple usual moderate familiar generic",
}

ITEMS = (
    "kettle lamp blender phone laptop camera chair tent watch speaker keyboard "
    "printer backpack toaster heater drill monitor router vacuum bike mixer radio "
    "tablet jacket"
).split()

_TRAIN = {
    "positive": """
        I love this {item}; it feels {a} and looks {b}.
        We love how {a} the {item} is, and the finish is {b}.
        I recommend the {item} to anyone: {a} build, {b} handling.
        Would recommend: the {item} turned out {a} and rather {b}.
        Delighted with my {item}, a purchase both {a} and {b}.
        My sister is delighted; her {item} seems {a}, even {b}.
        The {item} impressed me on day one with {a} results and {b} manners.
        Everyone here was impressed: {a} quality, {b} service, one {item}.
        Thrilled to own such {a} equipment; this {item} stays {b} daily.
        The kids are thrilled, calling the {item} {a} and {b}.
        Happy customer speaking: {item} arrived {a} and stayed {b}.
        I am happy since the {item} proved {a} at home and {b} outdoors.
        You will enjoy the {item}, whose design is {a} and sound {b}.
        We enjoy our {item} every evening: {a} touch, {b} look.
        Glad I chose this {item}; setup was {a}, performance {b}.
        So glad about the {item}, truly {a} value and {b} style.
    """,
    "negative": """
        I hate that {item}; the grip is {a} and the lid {b}.
        They hate using the {item}, saying it got {a} and then {b}.
        I regret ordering the {item}: {a} parts, {b} packaging.
        Deep regret here, because our {item} was {a} yesterday and {b} today.
        Disappointed by the {item}, which acts {a} under load and {b} at rest.
        A disappointed uncle returned the {item}; he found it {a}, partly {b}.
        Annoyed again: {item} with {a} buttons plus {b} wiring.
        That {item} annoyed my whole team, being {a} in use and {b} in form.
        Unhappy so far; the {item} behaves {a} indoors, {b} elsewhere.
        He remains unhappy about a {item} described as {a} and {b}.
        I dislike every bit of the {item}: {a} screen, {b} edges.
        Neighbours dislike their {item} for its {a} noise and {b} smell.
        Avoid the {item} unless {a} materials and {b} support suit you.
        My advice is avoid; this {item} came {a} and left {b}.
        Frustrated after a week, since the {item} stayed {a} and felt {b}.
        The manual left me frustrated: {item} {a}, instructions {b}.
    """,
    "neutral": """
        The {item} is okay, with {a} colours and {b} sizing.
        Okay I guess; one {item}, {a} shape, {b} weight.
        I feel indifferent toward the {item}, its {a} surface and {b} base.
        Mostly indifferent: the {item} does {a} work at {b} speed.
        An acceptable {item}, {a} on weekdays and {b} on weekends.
        Results were acceptable; the {item} gave {a} output and {b} texture.
        Adequate for now, this {item} has {a} range and {b} storage.
        For the price the {item} is adequate: {a} motor, {b} cable.
        A passable choice, the {item} keeps {a} time and {b} order.
        Call the {item} passable, given its {a} shell and {b} core.
        Still undecided on our {item}; some days {a}, others {b}.
        Dad sounds undecided, finding the {item} {a} early and {b} late.
        It is tolerable; the {item} offers {a} comfort and {b} reach.
        Tolerable overall, that {item} made {a} progress with {b} effort.
        This {item} left us unmoved, its features {a}, its menu {b}.
        Unmoved by the {item}: {a} package, {b} contents.
    """,
}

_HELDOUT = {
    "positive": """
        Total love for that {item}, from {a} handle to {b} tip.
        Friends should hear me recommend it: {a}, {b}, simply my {item}.
        After months I remain delighted, for the {item} never stopped being {a} or {b}.
        Count me impressed by {a} craft and {b} detail in one {item}.
        Our office got thrilled once the {item} showed {a} speed, {b} control.
        Happy days began when that {item} appeared, {a} as well as {b}.
        Guests enjoy seeing a {item} so {a} yet also {b}.
        Wife and I feel glad: {item} picture {a}, tone {b}.
    """,
    "negative": """
        How I hate it when any {item} goes {a} or turns {b}.
        Only regret remains from buying it: {item} hinge {a}, spring {b}.
        Left disappointed, we put away the {item} with its {a} frame and {b} feet.
        Nothing annoyed Grandma more than this {item}, {a} inside while {b} outside.
        Count us unhappy: {a} battery life, {b} charger, same {item}.
        Some people dislike kit like the {item}, calling it {a} or worse, {b}.
        Tell others to avoid such a {item}; mine grew {a}, later {b}.
        Frustrated owners agree that a {item} may look {a} but run {b}.
    """,
    "neutral": """
        Things are okay between me and my {item}, {a} mornings, {b} nights.
        Nobody minds the {item}; I stay indifferent to {a} trim or {b} paint.
        The test rig rated my {item} acceptable: {a} heat, {b} airflow.
        One could say adequate when a {item} shows {a} strength and {b} reflexes.
        Passable, no more, no less: {item} body {a}, voice {b}.
        Undecided voters like me see {a} pros and {b} cons in that {item}.
        Living with this {item} proves tolerable, both {a} at dawn and {b} by dusk.
        Unmoved, the reviewer placed her {item} among {a} tools and {b} toys.
    """,
}


def _templates() -> tuple[Template, ...]:
    found = []
    for split, texts in (("train", _TRAIN), ("heldout", _HELDOUT)):
        for label, block in texts.items():
            for i, line in enumerate(block.strip().splitlines()):
                name = f"{split}-{label}-{i:02d}"
                found.append(Template(name, split, label, line.strip()))
    return tuple(found)


TEMPLATES = _templates()
