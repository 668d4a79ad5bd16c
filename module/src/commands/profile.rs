//! BULL.PROFILE: the limits of a queue, an ordinary hash in its slot over the node's defaults.

use super::parse::Cursor;
use super::{answer, queue};
use crate::error::{Error, Result};
use crate::keeper::profiles;
use crate::queue::check::expect;
use crate::queue::error::QueueError;
use crate::queue::fields::Word;
use crate::queue::keys::QueueName;
use crate::queue::profile::{FIELDS, Limits, key};
use crate::queue::store::{Kind, Store};
use crate::redis::Context;
use crate::redis::call::Effect;
use crate::redis::context::Access;
use crate::redis::reply::Reply;
use crate::redis::store::LiveStore;
use crate::redis::string::Args;
use crate::text::short;

pub fn get(context: Context, args: Args<'_>) -> Option<Reply> {
    let run = || {
        let (mut cursor, queue, _) = open(context, args, Access::Read)?;
        cursor.finish()?;
        let limits = profiles::limits(context, &queue);
        let values = FIELDS.into_iter().zip(limits.values());
        let shown = |value: Option<u64>| value.map_or(Reply::Null, Reply::from);
        Ok(Some(Reply::Map(values.map(|(field, value)| (field.to_owned(), shown(value))).collect())))
    };
    answer(run())
}

pub fn set(context: Context, args: Args<'_>) -> Option<Reply> {
    let run = || {
        let (mut cursor, _, key) = open(context, args, Access::Write)?;
        let mut fields: Vec<(Word, Word)> = Vec::new();
        let mut scratch = Limits::default();
        while let Some(field) = cursor.optional() {
            let name = known(field)?;
            let value = cursor.value(name)?;
            scratch.set(name, value).map_err(Error::bad)?;
            fields.push((name.into(), value.into()));
        }
        if fields.is_empty() {
            return Err(Error::bad(format!("give a field and its value; fields are {}", FIELDS.join(", "))));
        }
        LiveStore(context).hset(&key, &fields)?;
        Ok(Some(Reply::Simple("OK")))
    };
    answer(run())
}

pub fn del(context: Context, args: Args<'_>) -> Option<Reply> {
    let run = || {
        let (mut cursor, _, key) = open(context, args, Access::Write)?;
        let mut words: Vec<Word> = vec![(&key).into()];
        while let Some(field) = cursor.optional() {
            words.push(known(field)?.into());
        }
        let gone = if words.len() == 1 {
            let fields = LiveStore(context).len(&key);
            LiveStore(context).del(&[&key])?;
            fields
        } else {
            context.call(c"HDEL", Effect::Replicated, &words)?.integer() as u64
        };
        Ok(Some(gone.into()))
    };
    answer(run())
}

fn open<'a>(context: Context, args: Args<'a>, access: Access) -> Result<(Cursor<'a>, QueueName, Vec<u8>)> {
    let mut cursor = Cursor::new(args, 2);
    let queue = queue(context, cursor.required("the queue")?)?;
    let key = key(&queue);
    if let Some(denied) = context.first_denied([key.as_slice()], access) {
        return Err(QueueError::NoPermission(short(denied, 128)).into());
    }
    expect(&LiveStore(context), &key, Kind::Hash)?;
    Ok((cursor, queue, key))
}

fn known(field: &[u8]) -> Result<&'static str> {
    FIELDS
        .into_iter()
        .find(|name| field.eq_ignore_ascii_case(name.as_bytes()))
        .ok_or_else(|| Error::bad(format!("unknown field '{}'; known are {}", short(field, 64), FIELDS.join(", "))))
}
