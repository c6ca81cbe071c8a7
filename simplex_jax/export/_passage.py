"""A text that no model was trained on, for files exported without data of their own."""

PASSAGE = """\
The ferry left the north shore at ten past six, eight minutes late, because the boy
with the ropes had been sent to look for the dog. Nobody complained. On Tuesdays the
boat carried the post, the bread and the schoolteacher, and none of the three was in a
hurry. Halim steered with two fingers and kept his coffee on the compass box, where a
brass ring had worn a circle into the varnish over nineteen years.

"Fog by noon," said the teacher, who said so most mornings and was right about a third
of the time. She had a bag of exercise books between her feet. The children on the
island were learning fractions, and she had found that they would divide loaves,
fields, days and rope without trouble, but that a plain line on the blackboard
defeated them. So she had begun to keep a length of rope in the cupboard, marked with
red thread at every twelfth.

Water is an odd thing to build a life on. It gets heavier as it cools until about four
degrees above freezing; then it changes its mind, grows lighter, and ice floats. If it
did not, the lake would freeze from the bottom upwards, and there would be no perch,
no herons and no ferry. Halim's father used to explain this with a glass jar and a
candle. He had never been to university, but he had read one physics book eleven
times, and he could tell you the page on which the author was wrong.

Halfway across, the engine coughed. Halim listened, tapped the gauge, and pushed the
throttle forward by the width of a coin. A filter, probably: the new fuel came from a
different supplier, cost 4 percent less, and left a brown film in the bowl. He had
worked out that the saving was 31 a month and that a filter cost 18, so that if the
cheap fuel ruined two filters a month he was paying for the privilege. He wrote the
date on the wheelhouse wall in pencil, under five other dates.

By the time the island's pier came into view the dog had been found asleep in the
lifejackets. The bread went up the hill on a handcart. The post was three letters and
a parcel with holes in it, which buzzed: queens for the beekeeper, who was waiting
with her gloves already on. And at a quarter to twelve, to everybody's mild annoyance,
the fog came in from the west and the teacher was right.
"""
