//! A hash map whose readers take no lock: each bucket is a small vector that is replaced whole. No `unsafe`.
#![forbid(unsafe_code)]

use std::hash::{BuildHasher, Hash, RandomState};

use quiescent::epoch::{self, Current, Guard};

type Bucket<K, V> = Current<Vec<(K, V)>>;

struct Map<K: Send + Sync + 'static, V: Send + Sync + 'static> {
    buckets: Box<[Bucket<K, V>]>,
    hasher: RandomState,
}

impl<K: Hash + Eq + Clone + Send + Sync, V: Clone + Send + Sync> Map<K, V> {
    fn new(buckets: usize) -> Self {
        let buckets = (0..buckets).map(|_| Current::new(Vec::new())).collect();
        Map { buckets, hasher: RandomState::new() }
    }
    fn bucket(&self, key: &K) -> &Bucket<K, V> {
        &self.buckets[self.hasher.hash_one(key) as usize % self.buckets.len()]
    }
    fn get<'g>(&self, key: &K, guard: &'g Guard) -> Option<&'g V> {
        self.bucket(key).get(guard).iter().find(|(there, _)| there == key).map(|(_, value)| value)
    }
    fn insert(&self, key: &K, value: &V, guard: &Guard) {
        self.bucket(key).update(guard, |old| {
            let others = old.iter().filter(|(there, _)| there != key).cloned();
            others.chain([(key.clone(), value.clone())]).collect()
        });
    }
}

fn main() {
    let map = Map::new(256);
    let fill = &|from: u32| (from..1000).step_by(2).for_each(|n| map.insert(&n, &(n * n), &epoch::pin()));
    std::thread::scope(|scope| (0..2).for_each(|from| drop(scope.spawn(move || fill(from)))));
    let guard = epoch::pin();
    assert!((0..1000).all(|n| map.get(&n, &guard) == Some(&(n * n))));
}
