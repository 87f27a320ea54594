//! Who calls whom: the order in which a callee's end is known before its caller is walked, and where calls go round.

/// Groups of functions that can call one another, callees first.
#[derive(Debug)]
pub struct Order {
    /// Functions, callees before callers as far as there is such an order.
    pub functions: Vec<u32>,
    group: Vec<u32>,
}

impl Order {
    /// Of functions by the functions that each calls. Tarjan's, without recursion: a module may be one long chain.
    pub fn of(calls: &[Vec<u32>]) -> Self {
        let mut walk = Walk {
            calls,
            number: vec![UNSEEN; calls.len()],
            low: vec![0; calls.len()],
            open: Vec::new(),
            next: 0,
            groups: 0,
            order: Self {
                functions: Vec::with_capacity(calls.len()),
                group: vec![UNSEEN; calls.len()],
            },
        };
        for start in 0..calls.len() {
            if walk.number[start] == UNSEEN {
                walk.from(start);
            }
        }
        walk.order
    }

    /// Whether this call may lead back to its caller.
    pub fn leads_back(&self, caller: u32, callee: u32) -> bool {
        self.group.get(caller as usize) == self.group.get(callee as usize)
    }
}

const UNSEEN: u32 = u32::MAX;

struct Walk<'c> {
    calls: &'c [Vec<u32>],
    number: Vec<u32>,
    low: Vec<u32>,
    open: Vec<usize>,
    next: u32,
    groups: u32,
    order: Order,
}

impl Walk<'_> {
    fn from(&mut self, start: usize) {
        let mut path = vec![(start, 0)];
        self.enter(start);
        while let Some((function, at)) = path.last_mut() {
            let function = *function;
            if let Some(&callee) = self.calls[function].get(*at) {
                *at += 1;
                let callee = callee as usize;
                if self.number[callee] == UNSEEN {
                    self.enter(callee);
                    path.push((callee, 0));
                } else if self.order.group[callee] == UNSEEN {
                    self.low[function] = self.low[function].min(self.number[callee]);
                }
                continue;
            }
            path.pop();
            if let Some(&(caller, _)) = path.last() {
                self.low[caller] = self.low[caller].min(self.low[function]);
            }
            if self.low[function] == self.number[function] {
                self.close(function);
            }
        }
    }

    fn enter(&mut self, function: usize) {
        self.number[function] = self.next;
        self.low[function] = self.next;
        self.next += 1;
        self.open.push(function);
    }

    fn close(&mut self, first: usize) {
        while let Some(function) = self.open.pop() {
            self.order.group[function] = self.groups;
            self.order.functions.push(u32::try_from(function).unwrap_or(UNSEEN));
            if function == first {
                break;
            }
        }
        self.groups += 1;
    }
}
