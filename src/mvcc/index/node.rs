//! The tree above the leaves: inner nodes, and every operation that descends.

use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

use super::leaf::{Leaf, separator};
use super::page::Page;
use super::undo::{Sequence, Undo};
use super::{Head, Visit};

/// Children per inner node at most. Copying a node counts up one reference per child, so nodes
/// are narrower than they would be on disk.
const CHILDREN: usize = if cfg!(test) { 4 } else { 16 };

/// A subtree, with what its parent knows of it.
#[derive(Clone, Debug, Default)]
pub struct Child {
    node: Node,
    /// Keys whose newest state is live.
    live: u64,
    /// No newest state below has a larger main revision.
    newest: i64,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Leaf),
    Inner(Arc<Inner>),
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Leaf::default())
    }
}

/// Child `i` holds the keys from separator `i - 1` on, below separator `i`.
#[derive(Clone, Debug)]
struct Inner {
    separators: Page<0>,
    children: Vec<Child>,
}

/// What happened to a subtree when a key was put.
struct Put {
    before: Option<Head>,
    /// The upper part, if the subtree's root was split, and the separator in front of it.
    split: Option<(Vec<u8>, Child)>,
}

impl Child {
    fn leaf(leaf: Leaf) -> Self {
        let (live, newest) = (leaf.live(), leaf.newest());
        Self { node: Node::Leaf(leaf), live, newest }
    }

    fn inner(inner: Inner) -> Self {
        let live = inner.children.iter().map(|child| child.live).sum();
        let newest = inner.children.iter().map(|child| child.newest).max().unwrap_or(0);
        Self { node: Node::Inner(Arc::new(inner)), live, newest }
    }

    /// The tree above leaves that stand in order. All its nodes are about equally full.
    pub fn above(leaves: Vec<Leaf>) -> Self {
        let mut row: Vec<(Vec<u8>, Child)> = Vec::with_capacity(leaves.len());
        let mut last: Option<Vec<u8>> = None;
        for leaf in leaves {
            let (first, next) = (leaf.first_key(), leaf.last_key());
            let front = match (last, first) {
                (Some(last), Some(first)) => separator(&last, &first),
                _ => Vec::new(),
            };
            row.push((front, Self::leaf(leaf)));
            last = next;
        }
        while row.len() > 1 {
            let groups = row.len().div_ceil(CHILDREN);
            let mut rest = row.into_iter();
            let mut left = rest.len();
            row = (0..groups)
                .map(|group| {
                    let size = left.div_ceil(groups - group);
                    left -= size;
                    Self::group(rest.by_ref().take(size))
                })
                .collect();
        }
        row.pop().map_or_else(Self::default, |(_, root)| root)
    }

    /// One node above neighbours, each behind its separator; the first one's is the node's.
    fn group(members: impl Iterator<Item = (Vec<u8>, Self)>) -> (Vec<u8>, Self) {
        let (mut separators, mut children, mut front) = (Page::default(), Vec::new(), Vec::new());
        for (separator, child) in members {
            match children.is_empty() {
                true => front = separator,
                false => separators = separators.insert(children.len() - 1, &separator, []),
            }
            children.push(child);
        }
        (front, Self::inner(Inner { separators, children }))
    }

    /// Visits all leaves in key order.
    pub fn each_leaf<E>(&self, visit: &mut dyn FnMut(&Leaf) -> Result<(), E>) -> Result<(), E> {
        match &self.node {
            Node::Leaf(leaf) if leaf.len() == 0 => Ok(()),
            Node::Leaf(leaf) => visit(leaf),
            Node::Inner(inner) => {
                inner.children.iter().try_for_each(|child| child.each_leaf(visit))
            }
        }
    }

    /// The newest state of `key` and its undo record.
    pub fn find(&self, key: &[u8]) -> Option<(Head, Sequence)> {
        let mut node = &self.node;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.find(key).map(|at| leaf.state(at)),
                Node::Inner(inner) => node = &inner.children[inner.separators.up_to(key)].node,
            }
        }
    }

    /// Gives `key` a newer state; returns the one before. Called on the root.
    pub fn put(&mut self, key: &[u8], head: Head, undo: &mut Undo) -> Option<Head> {
        let put = self.put_below(key, head, undo);
        if let Some((separator, upper)) = put.split {
            let lower = std::mem::take(self);
            let separators = Page::single(&separator, []);
            *self = Self::inner(Inner { separators, children: vec![lower, upper] });
        }
        put.before
    }

    fn put_below(&mut self, key: &[u8], head: Head, undo: &mut Undo) -> Put {
        let put = match &mut self.node {
            Node::Leaf(leaf) => {
                let (before, at) = leaf.put(key, head, undo);
                let split = leaf.is_overfull().then(|| leaf.split(at));
                Put { before, split: split.map(|(key, upper)| (key, Self::leaf(upper))) }
            }
            Node::Inner(inner) => {
                let inner = own(inner);
                let at = inner.separators.up_to(key);
                let put = inner.children[at].put_below(key, head, undo);
                if let Some((separator, upper)) = put.split {
                    inner.insert(at, &separator, upper);
                }
                let split = (inner.children.len() > CHILDREN).then(|| inner.split(at));
                Put { before: put.before, split }
            }
        };
        let was_live = put.before.is_some_and(|before| !before.tombstone);
        self.live = self.live + u64::from(!head.tombstone) - u64::from(was_live);
        self.newest = head.facts.revision.main;
        if let Some((_, upper)) = &put.split {
            self.live -= upper.live;
        }
        put
    }

    /// Removes a key whose newest state is a tombstone. Called on the root.
    pub fn remove(&mut self, key: &[u8]) {
        self.remove_below(key);
        // A root with one child is one level too many.
        while let Node::Inner(inner) = &mut self.node {
            let [only] = &inner.children[..] else { break };
            *self = only.clone();
        }
    }

    fn remove_below(&mut self, key: &[u8]) {
        match &mut self.node {
            Node::Leaf(leaf) => leaf.remove(key),
            Node::Inner(inner) => {
                let inner = own(inner);
                let at = inner.separators.up_to(key);
                inner.children[at].remove_below(key);
                inner.tidy(at);
            }
        }
    }

    fn is_empty(&self) -> bool {
        match &self.node {
            Node::Leaf(leaf) => leaf.len() == 0,
            Node::Inner(inner) => inner.children.is_empty(),
        }
    }

    /// Whether this subtree and its right neighbour are better one.
    fn may_join(&self, upper: &Self) -> bool {
        match (&self.node, &upper.node) {
            (Node::Leaf(leaf), Node::Leaf(upper)) => leaf.may_join(upper),
            (Node::Inner(inner), Node::Inner(upper)) => {
                inner.children.len() + upper.children.len() <= CHILDREN * 3 / 4
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                unreachable!("neighbours are of one height")
            }
        }
    }

    /// Takes in `upper`, the right neighbour behind `separator`.
    fn join(&mut self, separator: &[u8], upper: &Self) {
        match (&mut self.node, &upper.node) {
            (Node::Leaf(leaf), Node::Leaf(upper)) => leaf.join(upper),
            (Node::Inner(inner), Node::Inner(upper)) => {
                let inner = own(inner);
                let (lower, middle) = (&inner.separators, Page::single(separator, []));
                let pieces = [lower, &middle, &upper.separators].map(|page| (page, 0..page.len()));
                inner.separators = Page::join(&pieces);
                inner.children.extend_from_slice(&upper.children);
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                unreachable!("neighbours are of one height")
            }
        }
        self.live += upper.live;
        self.newest = self.newest.max(upper.newest);
    }
}

/// The node to change: itself if nobody shares it, else a copy put in its place.
fn own(shared: &mut Arc<Inner>) -> &mut Inner {
    // Nobody holds weak references, and only this owner could hand out another strong one.
    if Arc::strong_count(shared) > 1 {
        *shared = Arc::new(Inner::clone(shared));
    }
    Arc::get_mut(shared).expect("a node nobody else has seen is not shared")
}

impl Inner {
    /// Adds the upper part of the split child `at`.
    fn insert(&mut self, at: usize, separator: &[u8], upper: Child) {
        self.separators = self.separators.insert(at, separator, []);
        self.children.reserve_exact(1);
        self.children.insert(at + 1, upper);
    }

    /// Splits in two after child `at` was split; returns the separator and the upper part.
    fn split(&mut self, at: usize) -> (Vec<u8>, Child) {
        let len = self.children.len();
        // As for leaves: keys that arrive in order leave full nodes behind.
        let middle = if at + 2 == len { len - 2 } else { len / 2 };
        let separator = self.separators.key(middle - 1).to_vec();
        let upper = Self {
            separators: self.separators.part(middle..len - 1),
            children: self.children.drain(middle..).collect(),
        };
        self.separators = self.separators.part(0..middle - 1);
        (separator, Child::inner(upper))
    }

    /// Drops child `at` if it is empty, or makes it one with a neighbour if both are small.
    fn tidy(&mut self, at: usize) {
        if self.children[at].is_empty() {
            self.children.remove(at);
            if !self.children.is_empty() {
                self.separators = self.separators.remove(at.saturating_sub(1));
            }
            return;
        }
        for lower in [at, at.wrapping_sub(1)] {
            let Some(upper) = lower.checked_add(1).and_then(|upper| self.children.get(upper))
            else {
                continue;
            };
            if self.children[lower].may_join(upper) {
                let separator = self.separators.key(lower).to_vec();
                let upper = self.children.remove(lower + 1);
                self.separators = self.separators.remove(lower);
                self.children[lower].join(&separator, &upper);
                return;
            }
        }
    }

    /// The children that may hold keys from `start` on and below `end`, each with the bounds that
    /// still matter to it.
    fn within<'a>(
        &'a self,
        start: Option<&'a [u8]>,
        end: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Child, Option<&'a [u8]>, Option<&'a [u8]>)> {
        let first = start.map_or(0, |start| self.separators.up_to(start));
        let last = end.map_or(self.children.len() - 1, |end| self.separators.below(end));
        (first..=last).map(move |at| {
            let start = start.filter(|_| at == first);
            let end = end.filter(|_| at == last);
            (&self.children[at], start, end)
        })
    }
}

/// A walk over the keys that are live at one main revision.
pub struct Walk<'a> {
    pub at: i64,
    pub undo: &'a Undo,
}

impl Walk<'_> {
    /// Visits keys from `start` on and below `end`, in order.
    pub fn visit(
        &self,
        child: &Child,
        start: Option<&[u8]>,
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> ControlFlow<()> {
        if child.live == 0 && child.newest <= self.at {
            return Continue(());
        }
        match &child.node {
            Node::Leaf(leaf) => {
                for at in leaf.within(start, end) {
                    let (head, undo) = leaf.state(at);
                    if let Some(facts) = self.undo.live_at(head, undo, self.at)
                        && let Break(()) = visit(leaf.key(at), facts)
                    {
                        return Break(());
                    }
                }
                Continue(())
            }
            Node::Inner(inner) => inner
                .within(start, end)
                .try_for_each(|(child, start, end)| self.visit(child, start, end, visit)),
        }
    }

    /// Counts keys from `start` on and below `end`.
    pub fn count(&self, child: &Child, start: Option<&[u8]>, end: Option<&[u8]>) -> i64 {
        let settled = child.newest <= self.at;
        if settled && (child.live == 0 || (start.is_none() && end.is_none())) {
            return child.live as i64;
        }
        match &child.node {
            Node::Leaf(leaf) => {
                let live = |at: &usize| match settled {
                    true => leaf.is_live(*at),
                    false => {
                        let (head, undo) = leaf.state(*at);
                        self.undo.live_at(head, undo, self.at).is_some()
                    }
                };
                leaf.within(start, end).filter(live).count() as i64
            }
            Node::Inner(inner) => inner
                .within(start, end)
                .map(|(child, start, end)| self.count(child, start, end))
                .sum(),
        }
    }
}

impl Child {
    /// Panics if an invariant does not hold; returns the height.
    pub fn check(&self, start: Option<&[u8]>, end: Option<&[u8]>, root: bool) -> usize {
        match &self.node {
            Node::Leaf(leaf) => {
                assert!(root || leaf.len() > 0, "leaves are not empty");
                assert_eq!(self.live, leaf.live());
                assert!(self.newest >= leaf.newest(), "newest bounds the leaf");
                assert_eq!(leaf.within(start, end), 0..leaf.len(), "keys lie within bounds");
                let keys: Vec<_> = (0..leaf.len()).map(|at| leaf.key(at).to_vec()).collect();
                assert!(keys.is_sorted_by(|a, b| a < b), "keys ascend");
                0
            }
            Node::Inner(inner) => {
                let len = inner.children.len();
                assert!(!root || len > 1, "a root has two children");
                assert!(len > 0 && len <= CHILDREN && inner.separators.len() == len - 1);
                assert_eq!(self.live, inner.children.iter().map(|child| child.live).sum::<u64>());
                assert!(inner.children.iter().all(|child| child.newest <= self.newest));
                let keys: Vec<_> =
                    (0..len - 1).map(|at| inner.separators.key(at).to_vec()).collect();
                assert!(keys.is_sorted_by(|a, b| a < b), "separators ascend");
                let bound = |at: usize| keys.get(at).map(|key| &key[..]);
                let heights: Vec<usize> = (0..len)
                    .map(|at| {
                        let start = at.checked_sub(1).map_or(start, bound);
                        let end = bound(at).or(end);
                        inner.children[at].check(start, end, false)
                    })
                    .collect();
                assert!(heights.windows(2).all(|pair| pair[0] == pair[1]), "leaves are level");
                heights[0] + 1
            }
        }
    }
}
