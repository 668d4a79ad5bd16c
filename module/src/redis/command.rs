//! Registration of commands with their documentation, and the way from the server to a handler.

use std::ffi::{CString, c_int};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use redis_module::raw;

use super::abi::{ERR, OK, RawContext, RawString};
use super::reply::Reply;
use super::string::Args;
use super::{Context, api};
use crate::entry::guarded;

/// Answers a command. None: the client was blocked and is answered later.
pub type Handler = fn(Context, Args<'_>) -> Option<Reply>;

/// A command as the server learns of it.
#[derive(Debug)]
pub struct Definition {
    /// `BULL.ADD`, or `BULL.POLICY|LOAD` for a subcommand; the container comes first in the list.
    pub name: &'static str,
    /// None: a container of subcommands.
    pub run: Option<Handler>,
    /// Flags of RM_CreateCommand.
    pub flags: &'static str,
    /// Categories for servers that let modules set them.
    pub categories: &'static str,
    /// As Redis counts: the name included, negative for "at least".
    pub arity: i32,
    pub key: KeyUse,
    pub summary: &'static str,
    pub complexity: &'static str,
    pub since: &'static str,
    pub args: &'static [Arg],
}

/// What the command does with the queue, its first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    None,
    Read,
    /// Reads the queue that is named, or the node where none is.
    ReadOptional,
    Insert,
    Delete,
    /// As EVAL has it: not the first argument, but as many keys as the second argument says. Wants the flag `getkeys-api`.
    Numbered,
}

/// An argument in COMMAND DOCS.
#[derive(Debug)]
pub struct Arg {
    pub name: &'static str,
    pub kind: ArgKind,
    /// The word before it.
    pub token: Option<&'static str>,
    pub optional: bool,
    pub multiple: bool,
    pub summary: &'static str,
}

#[derive(Debug)]
pub enum ArgKind {
    Key,
    String,
    Integer,
    Pattern,
    /// The word alone.
    Token,
    OneOf(&'static [Arg]),
    Block(&'static [Arg]),
}

/// Most commands a module of ours can have.
const MAX: usize = 64;

static HANDLERS: OnceLock<Vec<(&'static str, Handler, KeyUse)>> = OnceLock::new();

type Entry = unsafe extern "C" fn(*mut RawContext, *mut *mut RawString, c_int) -> c_int;

/// The server gives a handler no data of its own, so each command has its own entry.
extern "C" fn enter<const I: usize>(context: *mut RawContext, argv: *mut *mut RawString, argc: c_int) -> c_int {
    let context = Context(context);
    let Some((name, run, key)) = HANDLERS.get().and_then(|handlers| handlers.get(I)) else { return ERR };
    // SAFETY: the server hands over its own live argument vector for the time of this call.
    let args = unsafe { Args::new(argv, argc) };
    if *key == KeyUse::Numbered && context.is_asked_for_keys() {
        guarded("the keys of a command", || context.tell_numbered_keys(args));
        return OK;
    }
    match guarded(name, || run(context, args)) {
        Some(Some(reply)) => context.reply(&reply),
        Some(None) => {}
        None => context.reply(&Reply::Error("ERR internal error, see the server's log".into())),
    }
    OK
}

macro_rules! entries {
    ($($index:literal)+) => { [$(enter::<$index>),+] };
}

static ENTRIES: [Entry; MAX] = entries!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39
        40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);

/// Registers all commands. Only while the module loads. Errors: the name of the command that the server refused.
pub fn register(context: Context, definitions: Vec<&'static Definition>) -> Result<(), &'static str> {
    let named = |definition: &&'static Definition| definition.run.map(|run| (definition.name, run, definition.key));
    let handlers: Vec<_> = definitions.iter().filter_map(named).collect();
    assert!(handlers.len() <= MAX, "more commands than entries");
    if HANDLERS.set(handlers).is_err() {
        return Err("BULL.*: registered twice");
    }
    let mut next = 0;
    let own_category = add_category(context);
    for definition in definitions {
        let entry = definition.run.map(|_| {
            next += 1;
            ENTRIES[next - 1]
        });
        let command = create(context, definition, entry).ok_or(definition.name)?;
        describe(command, definition).then_some(()).ok_or(definition.name)?;
        categorise(command, definition, own_category);
    }
    Ok(())
}

fn c(text: &str) -> CString {
    CString::new(text).expect("texts of the table hold no NUL")
}

fn create(context: Context, definition: &Definition, entry: Option<Entry>) -> Option<*mut raw::RedisModuleCommand> {
    let first = c_int::from(!matches!(definition.key, KeyUse::None | KeyUse::Numbered));
    let flags = c(definition.flags);
    // SAFETY: names and flags are C strings that live through the calls; the entry has the signature of a command.
    unsafe {
        let status = match definition.name.split_once('|') {
            None => {
                let name = c(definition.name);
                api!(RedisModule_CreateCommand)(context.0, name.as_ptr(), entry, flags.as_ptr(), first, first, first)
            }
            Some((container, sub)) => {
                let parent = api!(RedisModule_GetCommand)(context.0, c(container).as_ptr());
                let sub = c(sub);
                if parent.is_null() {
                    return None;
                }
                let first = first * 2;
                api!(RedisModule_CreateSubcommand)(parent, sub.as_ptr(), entry, flags.as_ptr(), first, first, first)
            }
        };
        if status != OK {
            return None;
        }
        let command = api!(RedisModule_GetCommand)(context.0, c(definition.name).as_ptr());
        (!command.is_null()).then_some(command)
    }
}

fn add_category(context: Context) -> bool {
    // SAFETY: probed; the name is a C string.
    unsafe { raw::RedisModule_AddACLCategory.is_some_and(|add| add(context.0, c"bull".as_ptr()) == OK) }
}

fn categorise(command: *mut raw::RedisModuleCommand, definition: &Definition, own: bool) {
    // A word too many, even an empty one, is a warning in the server's log.
    let own = own.then_some("bull");
    let words: Vec<&str> = definition.categories.split_whitespace().chain(own).collect();
    let text = c(&words.join(" "));
    // SAFETY: probed; command and text are live. A server that refuses leaves the command without categories.
    unsafe {
        if let Some(set) = raw::RedisModule_SetCommandACLCategories {
            set(command, text.as_ptr());
        }
    }
}

/// C structs of one command's documentation; the server copies them.
#[derive(Default)]
struct Arena {
    texts: Vec<CString>,
    lists: Vec<Box<[raw::RedisModuleCommandArg]>>,
}

impl Arena {
    fn text(&mut self, text: &str) -> *const std::ffi::c_char {
        self.texts.push(c(text));
        self.texts.last().map_or(null(), |text| text.as_ptr())
    }

    fn list(&mut self, args: &[Arg]) -> *mut raw::RedisModuleCommandArg {
        let mut list: Vec<_> = args.iter().map(|arg| self.arg(arg)).collect();
        // SAFETY: zeroes are a valid value of this plain C struct, and end the list.
        list.push(unsafe { std::mem::zeroed() });
        self.lists.push(list.into_boxed_slice());
        self.lists.last_mut().map_or(null_mut(), |list| list.as_mut_ptr())
    }

    fn arg(&mut self, arg: &Arg) -> raw::RedisModuleCommandArg {
        let (kind, subargs) = match arg.kind {
            ArgKind::Key => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY, null_mut()),
            ArgKind::String => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING, null_mut()),
            ArgKind::Integer => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER, null_mut()),
            ArgKind::Pattern => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PATTERN, null_mut()),
            ArgKind::Token => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN, null_mut()),
            ArgKind::OneOf(args) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF, self.list(args)),
            ArgKind::Block(args) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK, self.list(args)),
        };
        let mut flags = raw::REDISMODULE_CMD_ARG_NONE;
        if arg.optional {
            flags |= raw::REDISMODULE_CMD_ARG_OPTIONAL;
        }
        if arg.multiple {
            flags |= raw::REDISMODULE_CMD_ARG_MULTIPLE;
        }
        raw::RedisModuleCommandArg {
            name: self.text(arg.name),
            type_: kind,
            key_spec_index: if matches!(arg.kind, ArgKind::Key) { 0 } else { -1 },
            token: arg.token.map_or(null(), |token| self.text(token)),
            summary: if arg.summary.is_empty() { null() } else { self.text(arg.summary) },
            since: null(),
            flags: flags as c_int,
            deprecated_since: null(),
            subargs,
            display_text: null(),
        }
    }
}

/// `place` is the queue's index among the arguments, the command's name being 0.
fn key_specs(key: KeyUse, place: c_int) -> Option<[raw::RedisModuleCommandKeySpec; 2]> {
    let flags = match key {
        KeyUse::None => return None,
        KeyUse::Read | KeyUse::ReadOptional => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
        KeyUse::Insert => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_INSERT,
        KeyUse::Delete => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_DELETE,
        KeyUse::Numbered => {
            raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE
        }
    };
    // SAFETY: zeroes are a valid value of this plain C struct, and end the list.
    let mut specs: [raw::RedisModuleCommandKeySpec; 2] = unsafe { std::mem::zeroed() };
    specs[0].flags = u64::from(flags);
    specs[0].begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    if key == KeyUse::Numbered {
        specs[0].bs.index.pos = 2;
        specs[0].find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_KEYNUM;
        specs[0].fk.keynum.keynumidx = 0;
        specs[0].fk.keynum.firstkey = 1;
        specs[0].fk.keynum.keystep = 1;
        return Some(specs);
    }
    specs[0].bs.index.pos = place;
    specs[0].find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
    specs[0].fk.range.lastkey = 0;
    specs[0].fk.range.keystep = 1;
    specs[0].fk.range.limit = 0;
    Some(specs)
}

fn describe(command: *mut raw::RedisModuleCommand, definition: &Definition) -> bool {
    let mut arena = Arena::default();
    let version = raw::RedisModuleCommandInfoVersion {
        version: 1,
        sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
        sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
        sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
    };
    let mut specs = key_specs(definition.key, definition.name.split('|').count() as c_int);
    let info = raw::RedisModuleCommandInfo {
        version: &version,
        summary: arena.text(definition.summary),
        complexity: if definition.complexity.is_empty() { null() } else { arena.text(definition.complexity) },
        since: arena.text(definition.since),
        history: null_mut(),
        tips: null(),
        arity: definition.arity,
        key_specs: specs.as_mut().map_or(null_mut(), |specs| specs.as_mut_ptr()),
        args: if definition.args.is_empty() { null_mut() } else { arena.list(definition.args) },
    };
    // SAFETY: everything that `info` points at lives through the call; the server copies it.
    unsafe { api!(RedisModule_SetCommandInfo)(command, &info) == OK }
}
