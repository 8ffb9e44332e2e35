"""The doctor's reading of code: mistakes with databases on serverless platforms, by file and line."""
