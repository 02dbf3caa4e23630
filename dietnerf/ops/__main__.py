"""`python -m dietnerf.ops` says in one line which kernels were built, and why others were not."""

from dietnerf.ops._load import describe_build

print(describe_build())
