//! The image as a tree of plain data, before it is packed.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a part of the image is for. The image is packed category by category, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Microcode, uncompressed: the kernel reads it before it can decompress anything.
    Microcode,
    /// Directories, device nodes, the clock stamp.
    Base,
    /// `/config.d` and certificates.
    Config,
    /// `/init`
    Controller,
    /// Programs and their libraries.
    Tools,
    /// Kernel modules and their index.
    Modules,
    /// What modules load into devices.
    Firmware,
}

/// A file, in the widest sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
    Link { target: String },
    Device { mode: u32, major: u32, minor: u32 },
}

impl Node {
    pub(super) fn file(bytes: Vec<u8>) -> Self {
        Self::File { mode: 0o644, bytes }
    }

    pub(super) fn program(bytes: Vec<u8>) -> Self {
        Self::File { mode: 0o755, bytes }
    }

    /// What it holds: a file's bytes, or a link's target.
    pub(super) fn content(&self) -> &[u8] {
        match self {
            Self::File { bytes, .. } => bytes,
            Self::Link { target } => target.as_bytes(),
            Self::Directory { .. } | Self::Device { .. } => &[],
        }
    }
}

/// Everything that is in the image.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// By category, so that parents come first: all directories are of the first.
    nodes: BTreeMap<(Category, String), Node>,
}

impl Tree {
    /// The directories and device nodes that every image has.
    pub(super) fn new() -> Self {
        let mut tree = Self::default();
        for directory in ["bin", "dev", "etc", "lib", "proc", "run", "sbin", "sys", "sysroot"] {
            tree.insert(directory, Category::Base, Node::Directory { mode: 0o755 });
        }
        tree.insert("tmp", Category::Base, Node::Directory { mode: 0o1777 });
        // The kernel opens the console before it starts /init; numbers from its admin-guide/devices.txt.
        let console = Node::Device { mode: 0o600, major: 5, minor: 1 };
        tree.insert("dev/console", Category::Base, console);
        let null = Node::Device { mode: 0o666, major: 1, minor: 3 };
        tree.insert("dev/null", Category::Base, null);
        tree
    }

    /// Adds a node at a path without a leading `/`, and the directories above it.
    pub(super) fn insert(&mut self, path: &str, category: Category, node: Node) {
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default().to_owned();
            let directory = Node::Directory { mode: 0o755 };
            self.nodes.entry((Category::Base, parent)).or_insert(directory);
        }
        self.nodes.insert((category, path.to_owned()), node);
    }

    /// Every node with its path, category by category.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Category, &str, &Node)> {
        self.nodes.iter().map(|((category, path), node)| (*category, path.as_str(), node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut tree = Tree::new();
        tree.insert("lib/firmware/a/b.bin", Category::Firmware, Node::file(vec![1]));
        tree.insert("init", Category::Controller, Node::program(vec![2]));
        let paths: Vec<_> = tree.iter().map(|(_, path, _)| path).collect();
        for (at, path) in paths.iter().enumerate() {
            if let Some((parent, _)) = path.rsplit_once('/') {
                assert!(paths.iter().take(at).any(|p| *p == parent), "{path} before {parent}");
            }
        }
        assert_eq!(paths.last(), Some(&"lib/firmware/a/b.bin"));
    }
}
