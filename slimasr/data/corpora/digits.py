"""placeholder until written"""
from slimasr.data.corpora.base import Corpus
DIGITS = Corpus("digits", ("digits",), "x", lambda a,b,c: {})
