"""The core of Tanhui and its composition."""
