//! stub
use bytes::Bytes;
use crate::error::Error;
use crate::storage::engine::Write;
#[derive(Default)]
pub struct Book {}
pub struct Lease { pub granted_ttl: i64 }
impl Book {
    pub fn get(&self, _id: i64) -> Option<&Lease> { None }
    pub fn keys(&self, _id: i64) -> Vec<Bytes> { vec![] }
    pub fn ids(&self) -> Vec<i64> { vec![] }
    pub fn contains(&self, _id: i64) -> bool { false }
    pub fn grant(&mut self, _id: i64, _ttl: i64) -> Result<Write, Error> { Err(Error::LeaseExist) }
    pub fn revoke(&mut self, _id: i64) -> Option<(Vec<Bytes>, Write)> { None }
    pub fn checkpoint(&mut self, _id: i64, _r: i64) -> Option<Write> { None }
    pub fn attach(&mut self, _key: &[u8], _lease: i64) {}
    pub fn detach(&mut self, _key: &[u8]) {}
    pub fn load(&mut self, _k: &[u8], _v: &[u8]) -> Result<(), String> { Ok(()) }
    pub fn lifetimes(&self) -> Vec<(i64, i64)> { vec![] }
}
#[derive(Default)]
pub struct Deadlines {}
pub struct Renewal { pub ttl: i64, pub was_checkpointed: bool }
impl Deadlines {
    pub fn granted(&mut self, _id: i64, _ttl: i64, _now: u64) {}
    pub fn revoked(&mut self, _id: i64) {}
    pub fn checkpointed(&mut self, _id: i64, _r: i64) {}
    pub fn renew(&mut self, _id: i64, _now: u64) -> Result<Renewal, Error> { Err(Error::LeaseNotFound) }
    pub fn remaining(&self, _id: i64, _now: u64) -> Option<i64> { None }
    pub fn expired(&mut self, _now: u64, _max: usize) -> Vec<i64> { vec![] }
    pub fn retry(&mut self, _id: i64) {}
    pub fn due_checkpoints(&mut self, _now: u64, _max: usize) -> Vec<(i64, i64)> { vec![] }
    pub fn promote(&mut self, _l: Vec<(i64, i64)>, _now: u64, _ext: u64) {}
}
