//! Changes of the policies in force: LOAD, CONFIG, MODE, REMOVE, RELOAD, what the folder holds at start-up, and new
//! instances in the place of failed ones.
//!
//! One thread compiles, which needs nothing but bytes. Another one, the desk, does all the rest, one change after the other:
//! it takes the settings as they are at the change's turn, configures, writes the files and hands the policy to the main
//! thread, which swaps a pointer. So two changes never mix, whatever takes how long, and no change is undone by one that
//! began earlier. The main thread is never waited for: what it is handed arrives in the order of the turns.

mod read_in;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wildmatch::WildMatch;

use self::read_in::{LockOrInner, ReadIn, Tally, read_in};
use super::admission::{policies, report};
use super::behind::Thread;
use super::ticket::Ticket;
use crate::entry::guarded;
use crate::error::{Error, Result};
use crate::policy::compiled::Compiled;
use crate::policy::faults::LoadError;
use crate::policy::files::{Folder, Found, MAX_POLICIES};
use crate::policy::instance::Instance;
use crate::policy::member::{Code, Policy, Remake, Seated};
use crate::policy::registry::cut_reason;
use crate::policy::settings::{Mode, Settings, Wanted};
use crate::policy::steps::{Step, reached};
use crate::policy::{Job, Node, Queue, Verdict};
use crate::redis::block::{Task, on_main_thread};
use crate::redis::log::{Level, log};
use crate::redis::reply::{Reply, map};
use crate::text::short;
use crate::{config, metrics};

static COMPILER: Thread = Thread::new("bull-compile");
static DESK: Thread = Thread::new("bull-policies");

/// What the desk knows; the registry of the main thread follows it.
struct Desk {
    /// None: policies are kept in memory only.
    folder: Option<Folder>,
    held: BTreeMap<String, Held>,
    changes: u64,
}

#[derive(Clone)]
struct Held {
    settings: Settings,
    body: Body,
    /// Grows with each change, so that what was read before is told from what is there now.
    change: u64,
}

#[derive(Clone)]
enum Body {
    Loading,
    Broken,
    Ready {
        code: Code,
        /// The component's file.
        wasm: String,
    },
}

/// Only the desk takes this lock, but for the start: nobody waits for it.
static STATE: Mutex<Desk> = Mutex::new(Desk { folder: None, held: BTreeMap::new(), changes: 0 });

fn desk() -> MutexGuard<'static, Desk> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a change at its turn; what goes wrong is the client's answer.
fn at_desk(ticket: Arc<Ticket>, work: impl FnOnce(&mut Desk, &Arc<Ticket>) -> Result<()> + Send + 'static) {
    let client = Arc::clone(&ticket);
    let queued = DESK.run(Box::new(move || {
        if !ticket.is_late()
            && let Err(error) = work(&mut desk(), &ticket)
        {
            ticket.answer(Err(error));
        }
    }));
    if let Err(error) = queued {
        client.answer(Err(error));
    }
}

/// Frees code and memory off the main thread: unmapping takes longer than a command may.
pub fn discard(what: impl Send + 'static) {
    // Where the thread cannot be had, it is freed here.
    let _ = DESK.run(Box::new(move || drop(what)));
}

/// Takes in the folder, at load: the settings at once, the components behind. Last in the order of a load, since threads
/// must not run into one that fails.
pub fn start(path: Option<PathBuf>) {
    let Some(folder) = path.map(Folder::new) else { return };
    let found = folder.read().unwrap_or_else(|error| {
        log(Level::Warning, &format!("bull: no policy is loaded from the folder of policies: {error}"));
        Vec::new()
    });
    let mut desk = desk();
    desk.folder = Some(folder.clone());
    for Found { name, record } in &found {
        let (settings, body) = match record {
            Ok(record) => (record.settings.clone(), Body::Loading),
            Err(_) => (Settings::default(), Body::Broken),
        };
        policies().replace(match record {
            Ok(record) => Policy::loading(name.clone(), record.settings.clone()),
            Err(error) => Policy::broken(name.clone(), Settings::default(), error.to_string()),
        });
        desk.hold(name, settings, body);
    }
    let seen = desk.held.clone();
    drop(desk);
    let tidied = folder.clone();
    let _ = DESK.run(Box::new(move || {
        if let Err(error) = tidied.tidy() {
            log(Level::Warning, &format!("bull: the folder of policies could not be tidied up: {error}"));
        }
    }));
    if !found.is_empty() {
        let read = COMPILER.run(Box::new(move || read_in(&folder, found, &seen, &Arc::default())));
        if let Err(error) = read {
            log(Level::Warning, &format!("bull: no policy is loaded from the folder of policies: {error}"));
        }
    }
}

/// Components that wait to be compiled, each with its bytes; more are refused.
const MAX_WAITING: usize = 16;

/// A component's place among those that wait.
struct Place;

static WAITING: AtomicUsize = AtomicUsize::new(0);

impl Place {
    fn take() -> Option<Self> {
        let taken = WAITING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < MAX_WAITING).then_some(n + 1));
        taken.is_ok().then(|| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// LOAD.
pub fn load(ticket: Arc<Ticket>, name: String, wanted: Wanted, wasm: Vec<u8>) {
    let client = Arc::clone(&ticket);
    let Some(place) = Place::take() else {
        let full = format!("{MAX_WAITING} components wait to be compiled; try again later");
        return client.answer(Err(Error::Policy(full)));
    };
    let queued = COMPILER.run(Box::new(move || {
        let _place = place;
        if ticket.is_late() {
            return;
        }
        let compiled = compile(&wasm);
        reached(Step::Compiled);
        match compiled {
            Ok(code) => at_desk(ticket, move |desk, ticket| desk.load(ticket, name, wanted, code, &wasm)),
            Err(error) => ticket.answer(Err(error.into())),
        }
    }));
    if let Err(error) = queued {
        client.answer(Err(error));
    }
}

/// CONFIG.
pub fn configure(ticket: Arc<Ticket>, name: String, config: String) {
    at_desk(ticket, move |desk, ticket| desk.configure(ticket, name, config));
}

/// MODE.
pub fn set_mode(ticket: Arc<Ticket>, name: String, mode: Mode) {
    at_desk(ticket, move |desk, ticket| desk.set_mode(ticket, name, mode));
}

/// REMOVE.
pub fn remove(ticket: Arc<Ticket>, name: String) {
    at_desk(ticket, move |desk, ticket| desk.remove(ticket, name));
}

/// TEST: asks a policy in an instance of its own. Nothing changes, so a late answer harms nobody.
pub fn test(ticket: Arc<Ticket>, name: String, node: Node, queue: Queue, job: Job) {
    at_desk(ticket, move |desk, ticket| {
        let (settings, code, _) = desk.ready(&name)?;
        let mut instance = Instance::new(&code.compiled, &settings.config)?;
        let start = Instant::now();
        let answer = instance.admit(node, &queue, &job);
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (verdict, reason) = match &answer {
            Ok(Verdict::Admit) => ("admit", Reply::Null),
            Ok(Verdict::AdmitWhile(terms)) => ("admit", terms.to_string().into()),
            Ok(Verdict::Reject(reason)) => ("reject", cut_reason(reason.clone()).into()),
            Ok(Verdict::Defer(millis)) => ("defer", format!("{millis} ms").into()),
            Ok(Verdict::Displace(jobs)) => ("displace", format!("{jobs} jobs").into()),
            Err(fault) => ("fault", fault.to_string().into()),
        };
        // What a fault burnt is not known: it counts as all.
        let fuel = if answer.is_ok() { instance.fuel_used() } else { code.compiled.limits.fuel };
        ticket.answer(Ok(map([
            ("verdict", verdict.into()),
            ("reason", reason),
            ("fuel", fuel.into()),
            ("nanoseconds", nanos.into()),
            ("version", code.compiled.description.version.as_str().into()),
            ("mode", settings.mode.name().into()),
            ("covers-queue", Reply::Bool(WildMatch::new(&settings.queues).matches(&queue.name))),
        ])));
        Ok(())
    });
}

/// RELOAD: the folder as it is now, whoever wrote it.
pub fn reload(ticket: Arc<Ticket>) {
    at_desk(ticket, |desk, ticket| {
        let Some(folder) = desk.folder.clone() else {
            return Err(Error::Policy("bull.policies is empty: policies are kept in memory only".into()));
        };
        // Compiling may take its time; nothing that it finds is half done.
        if !ticket.begin() {
            return Ok(());
        }
        let (seen, ticket) = (desk.held.clone(), Arc::clone(ticket));
        COMPILER.run(Box::new(move || match folder.read() {
            Ok(found) => {
                let tally = Arc::<Mutex<Tally>>::default();
                read_in(&folder, found, &seen, &tally);
                // Behind the changes, and their swaps.
                at_desk(ticket, move |_, ticket| {
                    let ticket = Arc::clone(ticket);
                    on_main_thread(Box::new(move |_| ticket.answer(Ok(tally.lock_or_inner().reply()))));
                    Ok(())
                });
            }
            Err(error) => ticket.answer(Err(Error::Policy(error.to_string()))),
        }))
    });
}

/// Makes a new instance in the place of one that failed, which is freed.
pub fn remake(order: Remake, failed: Option<Box<Instance>>) {
    let queued = DESK.run(Box::new(move || {
        drop(failed);
        let made = guarded("making an instance", || Instance::new(&order.code.compiled, &order.config));
        let made = made.unwrap_or_else(|| Err(internal())).map(Box::new);
        put_in_force(Box::new(move |_| {
            let seated = policies().seat(&order, made);
            match seated {
                Seated::Done => {}
                Seated::Unwanted(instance) => discard(instance),
                Seated::Suspended(incident) => report(incident),
            }
        }));
    }));
    if let Err(error) = queued {
        log(Level::Warning, &format!("bull: a failed policy cannot be made anew: {error}"));
    }
}

/// Hands a change to the main thread, which tells INFO how long it took.
fn put_in_force(change: Task) {
    on_main_thread(Box::new(move |context| {
        let start = Instant::now();
        change(context);
        metrics::swap_took(start.elapsed().as_micros() as u64);
    }));
}

fn internal() -> LoadError {
    LoadError::Compile("internal error, see the server's log".into())
}

fn compile(wasm: &[u8]) -> std::result::Result<Code, LoadError> {
    let start = Instant::now();
    let limits = config::policy_limits();
    let compiled = guarded("compiling a policy", || Compiled::new(wasm, limits)).unwrap_or_else(|| Err(internal()))?;
    Ok(Code { compiled: Arc::new(compiled), compile_ms: start.elapsed().as_millis() as u64 })
}

impl Desk {
    fn hold(&mut self, name: &str, settings: Settings, body: Body) {
        self.changes += 1;
        self.held.insert(name.to_owned(), Held { settings, body, change: self.changes });
    }

    /// The policy of that name, where it is ready for changes.
    fn ready(&self, name: &str) -> Result<(Settings, Code, String)> {
        let held = self.held.get(name).ok_or_else(|| unknown(name))?;
        match &held.body {
            Body::Ready { code, wasm } => Ok((held.settings.clone(), code.clone(), wasm.clone())),
            Body::Loading => Err(Error::Policy(format!("policy '{name}' is still being loaded; try again"))),
            Body::Broken => Err(Error::Policy(format!(
                "policy '{name}' is broken, as BULL.POLICY INFO shows; LOAD it again or REMOVE it"
            ))),
        }
    }

    fn load(&mut self, ticket: &Arc<Ticket>, name: String, wanted: Wanted, code: Code, wasm: &[u8]) -> Result<()> {
        let old = self.held.get(&name);
        if old.is_none() && self.held.len() >= MAX_POLICIES {
            return Err(Error::Policy(format!("{MAX_POLICIES} policies are loaded, the most; REMOVE one first")));
        }
        let settings = wanted.over(old.map(|held| held.settings.clone()).unwrap_or_default());
        let instance = Instance::new(&code.compiled, &settings.config)?;
        if !ticket.begin() {
            return Ok(());
        }
        let file = match &self.folder {
            Some(folder) => folder.put(&name, &settings, &code.compiled.digest, wasm).map_err(unwritten)?.wasm,
            None => String::new(),
        };
        self.swap(Some(ticket), name, settings, code, file, instance);
        Ok(())
    }

    fn configure(&mut self, ticket: &Arc<Ticket>, name: String, config: String) -> Result<()> {
        let (old, code, file) = self.ready(&name)?;
        let settings = Settings { config, ..old };
        let instance = Instance::new(&code.compiled, &settings.config)?;
        if !ticket.begin() {
            return Ok(());
        }
        self.settle(&name, &file, &code, &settings)?;
        self.swap(Some(ticket), name, settings, code, file, instance);
        Ok(())
    }

    fn set_mode(&mut self, ticket: &Arc<Ticket>, name: String, mode: Mode) -> Result<()> {
        let (old, code, file) = self.ready(&name)?;
        let settings = Settings { mode, ..old };
        if !ticket.begin() {
            return Ok(());
        }
        self.settle(&name, &file, &code, &settings)?;
        self.hold(&name, settings, Body::Ready { code, wasm: file });
        let ticket = Arc::clone(ticket);
        put_in_force(Box::new(move |_| {
            let order = policies().get_mut(&name).and_then(|policy| {
                policy.settings.mode = mode;
                policy.resume()
            });
            if let Some(order) = order {
                remake(order, None);
            }
            reached(Step::InForce);
            ticket.answer(Ok(Reply::Simple("OK")));
        }));
        Ok(())
    }

    fn remove(&mut self, ticket: &Arc<Ticket>, name: String) -> Result<()> {
        if !self.held.contains_key(&name) {
            return Err(unknown(&name));
        }
        if !ticket.begin() {
            return Ok(());
        }
        if let Some(folder) = &self.folder {
            folder.remove(&name).map_err(unwritten)?;
        }
        self.drop_policy(Some(ticket), name);
        Ok(())
    }

    fn settle(&self, name: &str, file: &str, code: &Code, settings: &Settings) -> Result<()> {
        match &self.folder {
            Some(folder) => folder.settle(name, file, &code.compiled.digest, settings).map(drop).map_err(unwritten),
            None => Ok(()),
        }
    }

    /// Hands a policy to the main thread, which answers the client once it is in force.
    fn swap(
        &mut self,
        ticket: Option<&Arc<Ticket>>,
        name: String,
        settings: Settings,
        code: Code,
        file: String,
        instance: Instance,
    ) {
        self.hold(&name, settings.clone(), Body::Ready { code: code.clone(), wasm: file });
        let compiled = &code.compiled;
        let version = short(compiled.description.version.as_bytes(), 64);
        let told = format!("bull: policy {name} {version} ({}) is in force", &compiled.digest[..12]);
        let reply = map([
            ("name", name.as_str().into()),
            ("version", compiled.description.version.as_str().into()),
            ("digest", compiled.digest.as_str().into()),
            ("bytes", (compiled.bytes as u64).into()),
            ("compile-ms", code.compile_ms.into()),
        ]);
        let policy = Policy::ready(name, code, settings, instance);
        let ticket = ticket.cloned();
        put_in_force(Box::new(move |_| {
            let old = policies().replace(policy);
            discard(old);
            log(Level::Notice, &told);
            reached(Step::InForce);
            if let Some(ticket) = ticket {
                ticket.answer(Ok(reply));
            }
        }));
    }

    fn drop_policy(&mut self, ticket: Option<&Arc<Ticket>>, name: String) {
        self.held.remove(&name);
        let ticket = ticket.cloned();
        put_in_force(Box::new(move |_| {
            let old = policies().remove(&name);
            discard(old);
            reached(Step::InForce);
            if let Some(ticket) = ticket {
                ticket.answer(Ok(Reply::Simple("OK")));
            }
        }));
    }

    /// Takes in what a file holds, unless its policy was changed since the file was read.
    fn take_in(&mut self, name: String, seen: u64, read: ReadIn, tally: &Mutex<Tally>) {
        if self.held.get(&name).map_or(0, |held| held.change) != seen {
            return;
        }
        let ReadIn { settings, wasm, code } = read;
        let made = code.and_then(|code| {
            let instance = guarded("making an instance", || Instance::new(&code.compiled, &settings.config));
            match instance.unwrap_or_else(|| Err(internal())) {
                Ok(instance) => Ok((code, instance)),
                Err(error) => Err(error.to_string()),
            }
        });
        match made {
            Ok((code, instance)) => {
                tally.lock_or_inner().loaded += 1;
                self.swap(None, name, settings, code, wasm, instance);
            }
            Err(reason) => {
                log(Level::Warning, &format!("bull: policy {name} cannot be loaded: {reason}"));
                tally.lock_or_inner().broken.push(format!("{name}: {reason}"));
                self.broke(name, settings, reason);
            }
        }
    }

    /// A file cannot be used. What is in force stays so, and tells of the file.
    fn broke(&mut self, name: String, settings: Settings, reason: String) {
        let in_force = self.held.get(&name).is_some_and(|held| matches!(held.body, Body::Ready { .. }));
        if !in_force {
            self.hold(&name, settings.clone(), Body::Broken);
        }
        put_in_force(Box::new(move |_| {
            let mut policies = policies();
            match policies.get_mut(&name) {
                Some(policy) if in_force => policy.last_error = Some(reason),
                _ => drop(policies.replace(Policy::broken(name, settings, reason))),
            }
        }));
    }
}

pub fn unknown(name: &str) -> Error {
    Error::Policy(format!("no policy '{name}' is loaded; BULL.POLICY LIST shows what is"))
}

fn unwritten(error: crate::policy::files::FileError) -> Error {
    Error::Policy(format!("{error}; nothing was changed"))
}
