//! Block devices and labels of mounted filesystems.
