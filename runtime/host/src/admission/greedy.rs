//! Whom to end when memory runs out: instances of the function that holds the most, the largest first.

/// One instance that could be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Which function it is of; small numbers.
    pub function: usize,
    /// What it holds, in bytes.
    pub bytes: u64,
}

/// Chooses instances that hold `over` bytes together, or all that hold anything. Asked anew after each: once the
/// greediest function holds no more than the next one, that one is the greediest, so nobody who holds little is ended
/// while somebody holds more.
pub fn choose(held: &[Held], over: u64, sums: &mut Vec<u64>, chosen: &mut Vec<usize>) {
    chosen.clear();
    sum(held, sums);
    let mut left = over;
    while left > 0 {
        let greediest = sums.iter().enumerate().max_by_key(|(_, bytes)| **bytes);
        let Some((function, 1..)) = greediest.map(|(function, bytes)| (function, *bytes)) else {
            return;
        };
        let its = held.iter().enumerate().filter(|(_, one)| one.function == function);
        let largest = its.filter(|(at, _)| !chosen.contains(at)).max_by_key(|(_, one)| one.bytes);
        let Some((at, one)) = largest else { return };
        chosen.push(at);
        sums[function] -= one.bytes;
        left = left.saturating_sub(one.bytes);
    }
}

/// What each function holds.
pub fn sum(held: &[Held], sums: &mut Vec<u64>) {
    sums.clear();
    for one in held {
        if sums.len() <= one.function {
            sums.resize(one.function + 1, 0);
        }
        sums[one.function] += one.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(held: &[(usize, u64)], over: u64) -> Vec<usize> {
        let held: Vec<_> = held.iter().map(|&(function, bytes)| Held { function, bytes }).collect();
        let mut chosen = Vec::new();
        choose(&held, over, &mut Vec::new(), &mut chosen);
        chosen
    }

    #[test]
    fn the_largest_of_the_greediest_go_first() {
        // Function 0 holds 60 in three, 1 holds 50 in one.
        let held = [(0, 10), (1, 50), (0, 20), (0, 30)];
        assert_eq!(chosen(&held, 0), [0; 0]);
        assert_eq!(chosen(&held, 1), [3]);
        assert_eq!(chosen(&held, 30), [3]);
        assert_eq!(chosen(&held, 31), [3, 1], "by then the other one holds more");
        assert_eq!(chosen(&held, 1000), [3, 1, 2, 0]);
    }

    #[test]
    fn many_small_ones_of_one_function_are_greedier_than_one_large_of_another() {
        let held: Vec<_> = (0..40).map(|_| (0, 2)).chain([(1, 60)]).collect();
        let ended = chosen(&held, 10);
        assert_eq!(ended.len(), 5);
        assert!(ended.iter().all(|&at| held[at].0 == 0));
    }

    #[test]
    fn who_holds_nothing_is_not_ended() {
        assert_eq!(chosen(&[], 10), [0; 0]);
        assert_eq!(chosen(&[(0, 0), (1, 0), (1, 5)], 10), [2]);
    }
}
