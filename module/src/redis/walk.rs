//! Walks of the live keyspace by SCAN and its kin, a bounded piece a call.

use std::ffi::c_int;
use std::ptr::null_mut;

use redis_module::raw;

use super::api;
use super::call::Answer;
use super::call::Effect::Local;
use super::call::with_known;
use super::key::ReadKey;
use super::store::LiveStore;
use crate::queue::fields::{Known, Word};
use crate::queue::store::{Kind, StoreResult};
use crate::queue::walk::{Group, Page, Reach, Walk, glob_escape};

/// Keys a step of SCAN looks at, about.
const KEYS: &str = "50";
/// Members a step looks at, about; small sets come whole.
const MEMBERS: &str = "16";

fn page(answer: Answer) -> Page {
    let Answer::List(mut parts) = answer else { return Page::default() };
    let items = parts.pop().map(Answer::texts).unwrap_or_default();
    let next = parts.pop().and_then(Answer::text).filter(|cursor| cursor != b"0");
    Page { items, next }
}

impl Walk for LiveStore {
    fn keys(&self, prefix: &[u8], cursor: Option<&[u8]>) -> StoreResult<Page> {
        let mut pattern = glob_escape(prefix);
        pattern.push(b'*');
        let words: [Word; 5] =
            [cursor.unwrap_or(b"0").into(), "MATCH".into(), (&pattern).into(), "COUNT".into(), KEYS.into()];
        Ok(page(self.0.call(c"SCAN", Local, &words)?))
    }

    fn members(&self, key: &[u8], group: Group, cursor: Option<&[u8]>) -> StoreResult<Page> {
        let command = match group {
            Group::Set => c"SSCAN",
            Group::ZSet => c"ZSCAN",
        };
        let words: [Word; 4] = [key.into(), cursor.unwrap_or(b"0").into(), "COUNT".into(), MEMBERS.into()];
        let mut page = page(self.0.call(command, Local, &words)?);
        if group == Group::ZSet {
            page.items = page.items.into_iter().step_by(2).collect();
        }
        Ok(page)
    }

    fn field_names(&self, key: &[u8]) -> StoreResult<Vec<Vec<u8>>> {
        Ok(self.0.call(c"HKEYS", Local, &[key.into()])?.texts())
    }

    fn has_fields(&self, key: &[u8], fields: &[Known]) -> bool {
        let Some(key) = ReadKey::open(self.0, key).filter(|key| key.kind() == Kind::Hash) else { return false };
        fields.iter().all(|&field| {
            with_known(field, |field| {
                let mut exists: c_int = 0;
                // SAFETY: the key is an open hash; with EXISTS, the place of a field's value is an int; NULL ends the list.
                unsafe {
                    let none = null_mut::<raw::RedisModuleString>();
                    let flags = raw::REDISMODULE_HASH_EXISTS as c_int;
                    let place: *mut c_int = &mut exists;
                    api!(RedisModule_HashGet)(key.raw(), flags, field.as_ptr(), place, none);
                }
                exists != 0
            })
        })
    }

    fn list_holds(&self, key: &[u8], element: &[u8], reach: Reach) -> StoreResult<bool> {
        let (rank, most) = match reach {
            Reach::Whole => ("1", 0),
            Reach::First(0) | Reach::Last(0) => return Ok(false),
            Reach::First(most) => ("1", most),
            Reach::Last(most) => ("-1", most),
        };
        let most = most.to_string();
        let words: [Word; 6] =
            [key.into(), element.into(), "RANK".into(), rank.into(), "MAXLEN".into(), most.as_str().into()];
        Ok(self.0.call(c"LPOS", Local, &words)?.text().is_some())
    }
}
