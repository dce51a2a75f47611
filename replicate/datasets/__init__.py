"""The image data sets as they lie on disk: one module each, from files to arrays of bytes and their checksum."""
