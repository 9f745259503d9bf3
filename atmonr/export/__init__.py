"""A finished product in the formats that other programs show: OpenVDB, video, a page for the browser.

Products are read through `atmonr.evaluate.extract_file` alone; nothing here knows how they were made.
"""
