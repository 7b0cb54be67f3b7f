"""Serials: which grams of a credit who has. Every gram has one serial and one owner; ranges are split, never copied."""
