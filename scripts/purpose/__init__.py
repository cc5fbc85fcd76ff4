"""Do written instructions make better models? `python -m scripts.purpose --help`"""
