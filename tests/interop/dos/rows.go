// Package dos attacks a server in every way we know, with an honest client beside each attack.
//
// A row is one attack. It runs in a process of its own; the server lives in a memory group of 512
// MiB; the honest client puts and reads a key a hundred times a second. It is judged whether that
// client was served in time and without a failure, what the server took, whether the attacker was
// refused, closed or bounded as the row says, and whether afterwards all is as before.
//
// etcd is attacked too and its figures are told, but it is not judged: some of this ends it.
package dos

// world is what a row's server has.
type world string

const (
	// plain is a small server without TLS.
	plain world = "plain"
	// secret is the same with TLS.
	secret world = "tls"
	// wide holds a million keys.
	wide world = "wide"
	// heavy holds values of a mebibyte.
	heavy world = "heavy"
)

// row is one attack.
type row struct {
	name  string
	world world
	// attack goes on until the attacker's context is done. It says itself when it begins.
	attack func(*attacker)
	// must says what is wrong with what became of the attacker; nothing if all is well.
	must func(tally) string
	// peak is how many MiB the server may grow by meanwhile; what is usual when zero.
	peak uint64
	// keeps is how many MiB the server may keep afterwards, beside what is usual.
	keeps uint64
	// seconds is how long the attack has to last to mean something, at the least.
	seconds float64
	// part of etcd without which there is nothing to attack.
	part string
}

const (
	// peakUsual is half of what there is.
	peakUsual = 256
	// keepsUsual is what a server's caches may have learned meanwhile, pages, rows, and entries of
	// the log for followers, and what its allocator has not given back yet.
	keepsUsual = 128
)

// rows are all attacks, those on one world after the other.
var rows = concat(
	requestRows, connectionRows, frameRows, watchRows, leaseRows, peerRows,
	secretRows, heavyRows, wideRows,
)

func concat(parts ...[]row) (all []row) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// allRefused: everything the attacker asked was refused, and something was asked.
func allRefused(t tally) string {
	if t.count("answered") > 0 {
		return errorf("%d requests were answered", t.count("answered"))
	}
	return some("refused")(t)
}

// some: this happened.
func some(names ...string) func(tally) string {
	return func(t tally) string {
		if t.count(names...) == 0 {
			return errorf("none of %q happened", names)
		}
		return ""
	}
}

// both: two conditions.
func both(one, other func(tally) string) func(tally) string {
	return func(t tally) string {
		if wrong := one(t); wrong != "" {
			return wrong
		}
		return other(t)
	}
}

// never: this did not happen.
func never(names ...string) func(tally) string {
	return func(t tally) string {
		if count := t.count(names...); count > 0 {
			return errorf("%d of %q happened", count, names)
		}
		return ""
	}
}

// atLeast: this happened so often that there was an attack at all.
func atLeast(count int64, names ...string) func(tally) string {
	return func(t tally) string {
		if t.count(names...) < count {
			return errorf("%d of %q happened, at least %d are an attack", t.count(names...), names,
				count)
		}
		return ""
	}
}
