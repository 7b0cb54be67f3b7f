"""Pooling: who authorises it, what is gathered into batches, how batches are verified and issued as credits."""
