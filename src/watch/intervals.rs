//! The ranges watched, as a balanced tree that finds the ones around a key.
//!
//! An AVL tree ordered by (start, end), each node knowing the furthest end below it, so that a
//! search leaves out every subtree that ends before the key. Finding the `m` ranges around a key
//! among `n` costs O(log n + m) when they are prefixes, as watched ranges mostly are.
//!
//! Invariants:
//! - Watchers of the same range share a node; a node without watchers does not exist.
//! - The heights of two siblings differ by at most one, so recursion is as deep as log n.

use std::collections::BTreeSet;

use bytes::Bytes;
use slab::Slab;

/// Where a range ends. `Open` is after every key, hence last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    Before(Bytes),
    Open,
}

impl Reach {
    fn passes(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => &end[..] > key,
            Self::Open => true,
        }
    }
}

type Link = Option<usize>;

#[derive(Debug)]
struct Node {
    start: Bytes,
    end: Reach,
    /// The furthest end in this subtree.
    furthest: Reach,
    height: u8,
    left: Link,
    right: Link,
    members: BTreeSet<u32>,
}

/// Ranges and who watches them.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    nodes: Slab<Node>,
    root: Link,
}

impl Intervals {
    /// Adds a watcher of `[start, end)`.
    pub fn insert(&mut self, start: &Bytes, end: &Reach, member: u32) {
        self.root = self.insert_at(self.root, start, end, member);
    }

    /// Removes a watcher added with the same range.
    pub fn remove(&mut self, start: &Bytes, end: &Reach, member: u32) {
        self.root = self.remove_at(self.root, start, end, member);
    }

    /// Calls `found` with every watcher of a range around `key`.
    pub fn around(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.around_at(self.root, key, found);
    }

    fn around_at(&self, link: Link, key: &[u8], found: &mut impl FnMut(u32)) {
        let Some(at) = link else { return };
        let node = &self.nodes[at];
        if !node.furthest.passes(key) {
            return;
        }
        self.around_at(node.left, key, found);
        if node.start > key {
            return;
        }
        if node.end.passes(key) {
            node.members.iter().for_each(|member| found(*member));
        }
        self.around_at(node.right, key, found);
    }

    fn insert_at(&mut self, link: Link, start: &Bytes, end: &Reach, member: u32) -> Link {
        let Some(at) = link else {
            return Some(self.nodes.insert(Node {
                start: start.clone(),
                end: end.clone(),
                furthest: end.clone(),
                height: 1,
                left: None,
                right: None,
                members: BTreeSet::from([member]),
            }));
        };
        let node = &self.nodes[at];
        let (left, right) = (node.left, node.right);
        match (start, end).cmp(&(&node.start, &node.end)) {
            std::cmp::Ordering::Less => {
                self.nodes[at].left = self.insert_at(left, start, end, member);
            }
            std::cmp::Ordering::Greater => {
                self.nodes[at].right = self.insert_at(right, start, end, member);
            }
            std::cmp::Ordering::Equal => {
                let fresh = self.nodes[at].members.insert(member);
                assert!(fresh, "a watcher is added to its range once");
                return link;
            }
        }
        Some(self.balance(at))
    }

    fn remove_at(&mut self, link: Link, start: &Bytes, end: &Reach, member: u32) -> Link {
        let at = link.expect("a range that was added is found");
        let node = &self.nodes[at];
        let (left, right) = (node.left, node.right);
        match (start, end).cmp(&(&node.start, &node.end)) {
            std::cmp::Ordering::Less => {
                self.nodes[at].left = self.remove_at(left, start, end, member);
            }
            std::cmp::Ordering::Greater => {
                self.nodes[at].right = self.remove_at(right, start, end, member);
            }
            std::cmp::Ordering::Equal => {
                let known = self.nodes[at].members.remove(&member);
                assert!(known, "a watcher that was added is found");
                if self.nodes[at].members.is_empty() {
                    return self.unlink(at);
                }
                return link;
            }
        }
        Some(self.balance(at))
    }

    /// Takes a node out; the root of what is left of its subtree.
    fn unlink(&mut self, at: usize) -> Link {
        let node = self.nodes.remove(at);
        match (node.left, node.right) {
            (None, other) | (other, None) => other,
            (Some(left), Some(right)) => {
                let (rest, heir) = self.take_first(right);
                self.nodes[heir].left = Some(left);
                self.nodes[heir].right = rest;
                Some(self.balance(heir))
            }
        }
    }

    /// Detaches the first node of a subtree; what is left of it, and the node.
    fn take_first(&mut self, at: usize) -> (Link, usize) {
        match self.nodes[at].left {
            None => (self.nodes[at].right, at),
            Some(left) => {
                let (rest, first) = self.take_first(left);
                self.nodes[at].left = rest;
                (Some(self.balance(at)), first)
            }
        }
    }

    fn height(&self, link: Link) -> u8 {
        link.map_or(0, |at| self.nodes[at].height)
    }

    /// Recomputes what a node knows of its subtree.
    fn refresh(&mut self, at: usize) {
        let node = &self.nodes[at];
        let height = 1 + self.height(node.left).max(self.height(node.right));
        let furthest = [node.left, node.right]
            .into_iter()
            .flatten()
            .map(|child| &self.nodes[child].furthest)
            .chain([&node.end])
            .max()
            .expect("the node's own end is there")
            .clone();
        let node = &mut self.nodes[at];
        node.height = height;
        node.furthest = furthest;
    }

    /// Restores the balance of a node whose subtrees are balanced; the subtree's root.
    fn balance(&mut self, at: usize) -> usize {
        let (left, right) = (self.nodes[at].left, self.nodes[at].right);
        let (left_height, right_height) = (self.height(left), self.height(right));
        if left_height > right_height + 1 {
            let child = left.expect("the higher side has a node");
            if self.height(self.nodes[child].right) > self.height(self.nodes[child].left) {
                self.nodes[at].left = Some(self.rotate_left(child));
            }
            return self.rotate_right(at);
        }
        if right_height > left_height + 1 {
            let child = right.expect("the higher side has a node");
            if self.height(self.nodes[child].left) > self.height(self.nodes[child].right) {
                self.nodes[at].right = Some(self.rotate_right(child));
            }
            return self.rotate_left(at);
        }
        self.refresh(at);
        at
    }

    fn rotate_left(&mut self, at: usize) -> usize {
        let pivot = self.nodes[at].right.expect("the side rotated up has a node");
        self.nodes[at].right = self.nodes[pivot].left;
        self.refresh(at);
        self.nodes[pivot].left = Some(at);
        self.refresh(pivot);
        pivot
    }

    fn rotate_right(&mut self, at: usize) -> usize {
        let pivot = self.nodes[at].left.expect("the side rotated up has a node");
        self.nodes[at].left = self.nodes[pivot].right;
        self.refresh(at);
        self.nodes[pivot].right = Some(at);
        self.refresh(pivot);
        pivot
    }
}

#[cfg(test)]
impl Intervals {
    /// The number of nodes, after checking every invariant of the tree.
    pub fn checked_len(&self) -> usize {
        fn check(tree: &Intervals, link: Link) -> (u8, Option<Reach>) {
            let Some(at) = link else { return (0, None) };
            let node = &tree.nodes[at];
            let (left, left_reach) = check(tree, node.left);
            let (right, right_reach) = check(tree, node.right);
            assert!(left.abs_diff(right) <= 1, "balanced");
            assert_eq!(node.height, 1 + left.max(right), "height");
            let furthest = left_reach.max(right_reach).max(Some(node.end.clone()));
            assert_eq!(Some(&node.furthest), furthest.as_ref(), "furthest end");
            assert!(!node.members.is_empty(), "a node has watchers");
            (node.height, furthest)
        }
        check(self, self.root);
        self.nodes.len()
    }
}
