//! Random operations of an unmodified client and of BULL.* on one queue, against a model in memory. After each of them the
//! states and their order are the model's and BULL.STATS says the same; at the end BULL.CHECK finds nothing. A failure is
//! shrunk to the fewest operations that show it.
//!
//! `PROPTEST_CASES` is the number of sequences; proptest prints the seed of one that failed.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use bull_tests::{Client, Server, clients};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// What enters: the client's words for it, and the module's.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Standard,
    Lifo,
    Delayed,
    Prioritized(u8),
}

/// Who adds it.
#[derive(Clone, Copy, Debug)]
enum By {
    Client,
    Module,
    /// Two of them in one BULL.MADD; the second without an id of its own.
    Many,
}

/// One step. Numbers choose among the jobs that are in the state, where there are any.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add(By, Entry, Option<u8>),
    Take,
    Complete(u8),
    Fail(u8),
    Promote(u8),
    Retry(u8),
    Remove(u8),
    Pause,
    Resume,
    TrimTo(u8, u8),
    TrimWaiting,
    Check,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let entry = prop_oneof![
        4 => Just(Entry::Standard),
        1 => Just(Entry::Lifo),
        2 => Just(Entry::Delayed),
        2 => (1..4u8).prop_map(Entry::Prioritized),
    ];
    let by = prop_oneof![Just(By::Client), Just(By::Module), Just(By::Many)];
    let step = prop_oneof![
        8 => (by, entry, prop::option::weighted(0.3, 0..4u8)).prop_map(|(by, entry, id)| Step::Add(by, entry, id)),
        6 => Just(Step::Take),
        3 => any::<u8>().prop_map(Step::Complete),
        2 => any::<u8>().prop_map(Step::Fail),
        1 => any::<u8>().prop_map(Step::Promote),
        1 => any::<u8>().prop_map(Step::Retry),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => (0..3u8, 0..3u8).prop_map(|(completed, failed)| Step::TrimTo(completed, failed)),
        1 => Just(Step::TrimWaiting),
        1 => Just(Step::Check),
    ];
    prop::collection::vec(step, 1..40)
}

/// The queue as it should be.
#[derive(Debug, Default)]
struct Model {
    /// Next to be taken last, as in BullMQ's list.
    wait: Vec<String>,
    /// Next to be taken first; a job goes behind those of its priority.
    prioritized: Vec<(u8, String)>,
    /// In the order of their adds; none becomes due within a test.
    delayed: Vec<(Entry, String)>,
    active: Vec<String>,
    completed: Vec<String>,
    failed: Vec<(Entry, String)>,
    /// What each job was added as.
    entries: Vec<(String, Entry)>,
    paused: bool,
    last_id: u64,
}

impl Model {
    fn add(&mut self, entry: Entry, own: Option<u8>) -> String {
        self.last_id += 1;
        let id = own.map_or_else(|| self.last_id.to_string(), |own| format!("own{own}"));
        if self.entries.iter().any(|(known, _)| *known == id) {
            return id;
        }
        self.entries.push((id.clone(), entry));
        match entry {
            Entry::Delayed => self.delayed.push((entry, id.clone())),
            _ => self.enter(entry, id.clone()),
        }
        id
    }

    fn enter(&mut self, entry: Entry, id: String) {
        match entry {
            Entry::Lifo => self.wait.push(id),
            Entry::Prioritized(priority) => {
                let at = self.prioritized.iter().position(|(other, _)| *other > priority);
                self.prioritized.insert(at.unwrap_or(self.prioritized.len()), (priority, id));
            }
            Entry::Standard | Entry::Delayed => self.wait.insert(0, id),
        }
    }

    /// Lists before priorities, nothing while paused.
    fn take(&mut self) -> Option<String> {
        if self.paused {
            return None;
        }
        let id = self.wait.pop().or_else(|| (!self.prioritized.is_empty()).then(|| self.prioritized.remove(0).1))?;
        self.active.push(id.clone());
        Some(id)
    }

    fn entry(&self, id: &str) -> Entry {
        self.entries.iter().find(|(known, _)| known == id).expect("a job of the model").1
    }

    fn forget(&mut self, gone: &[String]) {
        self.entries.retain(|(id, _)| !gone.contains(id));
    }

    /// All that client may remove: not the active ones.
    fn removable(&self) -> Vec<String> {
        let all = self.entries.iter().map(|(id, _)| id.clone());
        all.filter(|id| !self.active.contains(id)).collect()
    }

    fn remove(&mut self, id: &str) {
        self.wait.retain(|other| other != id);
        self.prioritized.retain(|(_, other)| other != id);
        self.delayed.retain(|(_, other)| other != id);
        self.completed.retain(|other| other != id);
        self.failed.retain(|(_, other)| other != id);
        self.forget(&[id.to_owned()]);
    }
}

/// The client's process.
struct Hands {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Hands {
    fn start(port: u16) -> Hands {
        let mut command = clients::node("model.mjs");
        command.args(["--port", &port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node runs");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Hands { child, input, output: BufReader::new(output) }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").expect("the client runs");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("the client runs");
        assert!(!answer.is_empty(), "the client ended at: {line}");
        answer.trim_end().to_owned()
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn clients_and_commands_leave_what_the_model_says() {
    let server = Server::builder().plain().start();
    let world = RefCell::new((Hands::start(server.port()), server.client()));
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let config = Config { cases, max_shrink_iters: 400, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&steps(), |steps| {
        let (hands, client) = &mut *world.borrow_mut();
        run(&steps, hands, client)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

fn run(steps: &[Step], hands: &mut Hands, client: &mut Client) -> Result<(), TestCaseError> {
    let queue = hands.ask("fresh");
    let mut model = Model::default();
    for step in steps {
        perform(*step, &queue, &mut model, hands, client)?;
        compare(*step, &queue, &model, client)?;
    }
    check(&queue, client)
}

fn perform(
    step: Step,
    queue: &str,
    model: &mut Model,
    hands: &mut Hands,
    client: &mut Client,
) -> Result<(), TestCaseError> {
    let chosen = |ids: &[String], number: u8| (!ids.is_empty()).then(|| ids[usize::from(number) % ids.len()].clone());
    match step {
        Step::Add(by, entry, own) => add(by, entry, own, queue, model, hands, client)?,
        Step::Take => {
            let expected = model.take().unwrap_or_else(|| "-".to_owned());
            prop_assert_eq!(hands.ask("take"), expected, "the next job");
        }
        Step::Complete(number) => {
            if let Some(id) = chosen(&model.active, number) {
                prop_assert_eq!(hands.ask(&format!("finish {id} ok")), "done");
                model.active.retain(|other| *other != id);
                model.completed.push(id);
            }
        }
        Step::Fail(number) => {
            if let Some(id) = chosen(&model.active, number) {
                prop_assert_eq!(hands.ask(&format!("finish {id} fail")), "done");
                model.active.retain(|other| *other != id);
                model.failed.push((model.entry(&id), id));
            }
        }
        Step::Promote(number) => {
            let ids: Vec<_> = model.delayed.iter().map(|(_, id)| id.clone()).collect();
            if let Some(id) = chosen(&ids, number) {
                prop_assert_eq!(hands.ask(&format!("promote {id}")), "done");
                model.delayed.retain(|(_, other)| *other != id);
                // promote puts the job where it is taken next to last: at the list's head.
                model.wait.insert(0, id);
            }
        }
        Step::Retry(number) => {
            let ids: Vec<_> = model.failed.iter().map(|(_, id)| id.clone()).collect();
            if let Some(id) = chosen(&ids, number) {
                prop_assert_eq!(hands.ask(&format!("retry {id}")), "done");
                model.failed.retain(|(_, other)| *other != id);
                retried(model, id);
            }
        }
        Step::Remove(number) => {
            if let Some(id) = chosen(&model.removable(), number) {
                prop_assert_eq!(hands.ask(&format!("remove {id}")), "done");
                model.remove(&id);
            }
        }
        Step::Pause => {
            prop_assert_eq!(hands.ask("pause"), "done");
            model.paused = true;
        }
        Step::Resume => {
            prop_assert_eq!(hands.ask("resume"), "done");
            model.paused = false;
        }
        Step::TrimTo(completed, failed) => trim_to(completed, failed, queue, model, client)?,
        Step::TrimWaiting => {
            // Nothing has waited for an hour.
            let reply = client.ok(&["BULL.TRIM", queue, "WAITING", "1h"]);
            prop_assert_eq!(reply.get("waiting").map(|count| count.int()), Some(0));
        }
        Step::Check => check(queue, client)?,
    }
    Ok(())
}

/// A retried job goes behind those that wait, or behind those of its priority.
fn retried(model: &mut Model, id: String) {
    match model.entry(&id) {
        entry @ Entry::Prioritized(_) => model.enter(entry, id),
        Entry::Lifo => model.wait.push(id),
        Entry::Standard | Entry::Delayed => model.wait.insert(0, id),
    }
}

fn add(
    by: By,
    entry: Entry,
    own: Option<u8>,
    queue: &str,
    model: &mut Model,
    hands: &mut Hands,
    client: &mut Client,
) -> Result<(), TestCaseError> {
    let own_id = own.map(|own| format!("own{own}"));
    let id = model.add(entry, own);
    let words = |number: &str| match entry {
        Entry::Standard => ("standard", String::new(), "{}".to_owned()),
        Entry::Lifo => ("lifo", "LIFO".to_owned(), "{\"lifo\":true}".to_owned()),
        Entry::Delayed => ("delayed", "DELAY 3600000".to_owned(), "{\"delay\":3600000}".to_owned()),
        Entry::Prioritized(_) => ("prioritized", format!("PRIORITY {number}"), format!("{{\"priority\":{number}}}")),
    };
    let number = if let Entry::Prioritized(priority) = entry { priority.to_string() } else { "3600000".to_owned() };
    let (kind, more, options) = words(&number);
    match by {
        By::Client => {
            let answer = hands.ask(&format!("add {kind} {} {number}", own_id.as_deref().unwrap_or("-")));
            prop_assert_eq!(answer, id);
        }
        By::Module => {
            let mut call = vec!["BULL.ADD", queue, "job", "{}"];
            call.extend(more.split_ascii_whitespace());
            if let Some(own_id) = &own_id {
                call.extend(["ID", own_id]);
            }
            prop_assert_eq!(client.ok(&call).text(), id);
        }
        By::Many => {
            let with_id = match &own_id {
                Some(own_id) if options == "{}" => format!("{{\"jobId\":\"{own_id}\"}}"),
                Some(own_id) => format!("{{\"jobId\":\"{own_id}\",{}", &options[1..]),
                None => options.clone(),
            };
            let second = model.add(entry, None);
            let reply = client.ok(&["BULL.MADD", queue, "job", "{}", &with_id, "job", "{}", &options]);
            prop_assert_eq!(reply.strings(), vec![id, second]);
        }
    }
    Ok(())
}

/// Which of several jobs that finished in the same millisecond go is BullMQ's order of ids, not the model's: their number is
/// compared, and the model takes over which.
fn trim_to(
    completed: u8,
    failed: u8,
    queue: &str,
    model: &mut Model,
    client: &mut Client,
) -> Result<(), TestCaseError> {
    let (most_completed, most_failed) = (completed.to_string(), failed.to_string());
    client.ok(&["BULL.TRIM", queue, "KEEPCOMPLETED", &most_completed, "KEEPFAILED", &most_failed]);
    let left = client.ok(&["ZRANGE", &format!("{queue}:completed"), "0", "-1"]).strings();
    prop_assert_eq!(left.len(), model.completed.len().min(completed.into()), "completed jobs left");
    let gone: Vec<_> = model.completed.iter().filter(|id| !left.contains(id)).cloned().collect();
    model.completed.retain(|id| left.contains(id));
    model.forget(&gone);
    let left = client.ok(&["ZRANGE", &format!("{queue}:failed"), "0", "-1"]).strings();
    prop_assert_eq!(left.len(), model.failed.len().min(failed.into()), "failed jobs left");
    let gone: Vec<_> = model.failed.iter().map(|(_, id)| id).filter(|id| !left.contains(id)).cloned().collect();
    model.failed.retain(|(_, id)| left.contains(id));
    model.forget(&gone);
    Ok(())
}

fn compare(step: Step, queue: &str, model: &Model, client: &mut Client) -> Result<(), TestCaseError> {
    let key = |suffix: &str| format!("{queue}:{suffix}");
    let after = format!("after {step:?}");
    let wait = client.ok(&["LRANGE", &key("wait"), "0", "-1"]).strings();
    prop_assert_eq!(&wait, &model.wait, "wait {}", &after);
    let prioritized = client.ok(&["ZRANGE", &key("prioritized"), "0", "-1"]).strings();
    let expected: Vec<_> = model.prioritized.iter().map(|(_, id)| id.clone()).collect();
    prop_assert_eq!(prioritized, expected, "prioritized {}", &after);
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let second = |jobs: &[(Entry, String)]| sorted(jobs.iter().map(|(_, id)| id.clone()).collect());
    let members = |client: &mut Client, suffix| sorted(client.ok(&["ZRANGE", &key(suffix), "0", "-1"]).strings());
    prop_assert_eq!(members(client, "delayed"), second(&model.delayed), "delayed {}", &after);
    prop_assert_eq!(members(client, "completed"), sorted(model.completed.clone()), "completed {}", &after);
    prop_assert_eq!(members(client, "failed"), second(&model.failed), "failed {}", &after);
    let active = sorted(client.ok(&["LRANGE", &key("active"), "0", "-1"]).strings());
    prop_assert_eq!(active, sorted(model.active.clone()), "active {}", &after);
    for id in model.entries.iter().map(|(id, _)| id) {
        prop_assert_eq!(client.ok(&["EXISTS", &key(id)]).int(), 1, "the hash of {} {}", id, &after);
    }
    if model.entries.is_empty() {
        return Ok(());
    }
    let stats = client.ok(&["BULL.STATS", queue]);
    let counts = [
        ("waiting", model.wait.len()),
        ("active", model.active.len()),
        ("prioritized", model.prioritized.len()),
        ("delayed", model.delayed.len()),
        ("completed", model.completed.len()),
        ("failed", model.failed.len()),
    ];
    for (name, count) in counts {
        let said = stats.get(name).map(|value| value.int());
        prop_assert_eq!(said, Some(i64::try_from(count).expect("a small number")), "{} in BULL.STATS {}", name, &after);
    }
    Ok(())
}

fn check(queue: &str, client: &mut Client) -> Result<(), TestCaseError> {
    let reply = client.cmd(&["BULL.CHECK", queue]);
    if reply.code().as_deref() == Some("NOQUEUE") {
        return Ok(());
    }
    prop_assert_eq!(reply.get("found").map(|count| count.int()), Some(0), "BULL.CHECK: {:?}", reply);
    Ok(())
}
