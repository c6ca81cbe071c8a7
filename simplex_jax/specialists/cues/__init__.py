"""Classes told by cue words, from sources that are more or less reliable."""

from ._sentiment import SENTIMENT_ANALYSIS as SENTIMENT_ANALYSIS
