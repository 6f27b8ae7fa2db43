"""DICOM objects without their patients, after PS3.15 Annex E."""
