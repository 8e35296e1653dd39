"""Images that a request names by URL: fetched by the gateway where the operator allows it, and by nobody else.

access.py   which URL, host and address may be asked (pure)
fetch.py    one image over HTTP, bounded, from the very address that was checked
inline.py   a request with its images in it
"""
