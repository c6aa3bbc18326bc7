//! Disks, partitions, filesystems and slots.
