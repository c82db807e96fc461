package chaos

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

// damageFaults change what one member has on its disk while it is down. It must refuse, heal, or be
// replaced, and whatever it serves must be right.
var damageFaults = []*fault{
	{kind: "bits flipped in a log", run: func(r *round) { r.damage("wal", "*.wal", "*/*.wal") }},
	{kind: "bits flipped in an engine", run: func(r *round) {
		r.damage("engine", "*/*/redb", "*/*/db", "*/db")
	}},
	{kind: "bits flipped in a small file", fits: kvorum, run: func(r *round) {
		r.damage("small", "../format", "state/current")
	}},
	{kind: "log lost", fits: kvorum, run: func(r *round) {
		member := r.any()
		r.struck(member.LoseLog)
		r.heal(member)
	}},
	{kind: "data directory lost", fits: kvorum, run: func(r *round) {
		member := r.any()
		r.struck(func() {
			member.Kill()
			if err := os.RemoveAll(member.Options.DataDir); err != nil {
				r.Fatal(err)
			}
		})
		r.heal(member)
	}},
}

// kvorum alone knows what to do about it.
func kvorum(r *round) bool { return !r.cluster.Program.Etcd }

const (
	// startsMax is how often a member is started until it serves: it may find damage as late as when
	// it reads, and end.
	startsMax = 6
	// healMax is how long all of that may take: one that asks to be replaced is patient.
	healMax = 75 * time.Second
)

// damage flips some bits in one of a member's files and starts it again.
func (r *round) damage(what string, patterns ...string) {
	member := r.any()
	r.struck(member.Kill)
	var files []string
	for _, pattern := range patterns {
		found, _ := filepath.Glob(filepath.Join(member.Options.DataDir, "member", pattern))
		files = append(files, found...)
	}
	if len(files) == 0 {
		r.Fatalf("there is no %s to damage", what)
	}
	file := files[r.random.Intn(len(files))]
	places := r.flip(file)
	r.Logf("    %s of %s: bits of %v flipped", file, member.Options.Name, places)
	r.heal(member)
}

// flip changes one to eight bits of a file, most often where something is written.
func (r *round) flip(path string) (places []int) {
	text, err := os.ReadFile(path)
	if err != nil {
		r.Fatal(err)
	}
	used := len(text)
	for used > 1 && text[used-1] == 0 {
		used--
	}
	for range 1 + r.random.Intn(8) {
		place := r.random.Intn(used)
		if r.random.Intn(20) == 0 {
			place = r.random.Intn(len(text))
		}
		text[place] ^= 1 << r.random.Intn(8)
		places = append(places, place)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		r.Fatal(err)
	}
	return places
}

// heal starts a member until it serves. If it refuses to, somebody replaces it, as it asks for.
func (r *round) heal(member *rig.Member) {
	before, starts, serves := len(member.Logged()), 0, false
	end := time.Now().Add(healMax)
	for !serves && time.Now().Before(end) && (member.Running() || starts < startsMax) {
		if !member.Running() {
			r.spawn([]*rig.Member{member})
			starts++
		}
		if member.WaitReady() != nil {
			continue
		}
		// What is damaged shows at the latest when it is read, or written to: half a second later.
		r.load.ReadsAt(member, 20)()
		r.readAll(member)
		r.while(1500 * time.Millisecond)
		serves = member.Running()
	}
	said := member.Logged()[before:]
	switch {
	case !serves:
		r.outcome("replaced by hand")
		r.Logf("    refused: %s", lastWords(said))
		member.Kill()
		r.load.Remove(member)
		r.load.Add(r.random.Intn(2) == 0)
	case strings.Contains(said, "the state was made again from another member's"):
		r.outcome("healed from another member")
	case strings.Contains(said, "this member was replaced"):
		r.outcome("replaced by itself")
	default:
		r.outcome("nothing was missing")
	}
	r.forget(member)
}

// readAll has a member read all it has, whatever comes of that: what is damaged is to show now, and
// not when it sends its state to somebody amid another fault.
func (r *round) readAll(member *rig.Member) {
	client := r.cluster.Client(member.Endpoint())
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	if all, err := client.Snapshot(ctx); err == nil {
		_, _ = io.Copy(io.Discard, all)
		_ = all.Close()
	}
}

// lastWords are the last line of a log.
func lastWords(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	last := lines[len(lines)-1]
	return last[max(0, len(last)-300):]
}

// forget lets it happen again: what was put aside stands for an hour in which it must not.
func (r *round) forget(member *rig.Member) {
	for _, pattern := range []string{"member/damaged-*", "quarantine"} {
		found, _ := filepath.Glob(filepath.Join(member.Options.DataDir, pattern))
		for _, folder := range found {
			harness.Eventually(r, harness.Patience, func() string {
				if err := os.RemoveAll(folder); err != nil {
					return err.Error()
				}
				return ""
			})
		}
	}
}
