// Package ctl runs etcd's own etcdctl against the server under test.
//
// The tests are scripts, testdata/*.txt, whose outputs were recorded from etcd:
//
//	# a comment
//	$ etcdctl put 'a key' value      a command; words may be in single quotes
//	< line                           a line of its standard input
//	{lines=3}                        it does not end by itself: interrupt it after 3 lines
//	  OK                             what it printed; a dot stands for an empty line
//	! text                           what it printed as an error
//	= exit 1                         how it ended, unless well
//
// ${LEASE1}, ${LEASE2}, … in a command are the leases granted so far; ${MEMBER} is the member's
// id and ${ENDPOINT} its address. In outputs they, and whatever else differs from run to run, are
// written as those names.
//
// UPDATE_GOLDENFILES=1 with SERVER_BIN=etcd records anew.
package ctl

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"kvorum/interop/harness"
)

const (
	commandTimeout = 30 * time.Second
	emptyLine      = "."
)

// command is one command of a script with its input.
type command struct {
	text  string
	stdin []string
	lines int
}

// runner runs the commands of one script on one server.
type runner struct {
	t      *testing.T
	server *harness.Server
	names  []name
	leases int
}

// name stands for a value of this run.
type name struct{ name, value string }

func newRunner(t *testing.T, server *harness.Server) *runner {
	r := &runner{t: t, server: server}
	status, err := server.Client(t).Status(harness.Context(t), server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(server.Endpoint(), "http://")
	r.name("ENDPOINT", address)
	r.name("PEER", strings.TrimPrefix(server.Options.PeerURL, "http://"))
	r.nameID("MEMBER", status.Header.MemberId)
	r.nameID("CLUSTER", status.Header.ClusterId)
	r.name("VERSION", status.Version)
	return r
}

func (r *runner) name(text, value string) { r.names = append(r.names, name{text, value}) }

// nameID names the forms in which tools write an id: after some words it takes 16 places at least.
func (r *runner) nameID(text string, id uint64) {
	for _, word := range []string{"Member ", "cluster "} {
		r.name(word+text, word+fmt.Sprintf("%16x", id))
	}
	for _, form := range []string{"%016x", "%x", "%d"} {
		r.name(text, fmt.Sprintf(form, id))
	}
}

// run plays a script and returns it with the outputs of this run.
func (r *runner) run(script string) string {
	var out []string
	lines := strings.Split(strings.TrimRight(script, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if !strings.HasPrefix(line, "$ ") {
			if line == "" || strings.HasPrefix(line, "#") {
				out = append(out, line)
			}
			continue
		}
		out = append(out, line)
		one := command{text: line[2:]}
		for i+1 < len(lines) {
			next := lines[i+1]
			if n, err := strconv.Atoi(strings.TrimSuffix(
				strings.TrimPrefix(next, "{lines="), "}")); err == nil {
				one.lines = n
			} else if strings.HasPrefix(next, "<") {
				one.stdin = append(one.stdin, strings.TrimPrefix(next[1:], " "))
			} else {
				break
			}
			out = append(out, next)
			i++
		}
		out = append(out, r.command(one)...)
	}
	return strings.Join(out, "\n") + "\n"
}

func (r *runner) command(one command) (out []string) {
	words := r.words(one.text)
	program := words[0]
	switch program {
	case "etcdctl":
		program = harness.Etcdctl(r.t)
	case "etcdutl":
		program = harness.Etcdutl(r.t)
	default:
		r.t.Fatalf("no such program: %s", program)
	}
	output := r.execute(one, program, words[1:])
	r.learnLeases(output.Stdout)
	status := strings.Contains(one.text, "endpoint status")
	for _, line := range r.masked(output.Stdout, status) {
		if line == "" {
			line = emptyLine
		}
		out = append(out, strings.TrimRight("  "+line, " "))
	}
	for _, line := range r.masked(output.Stderr, status) {
		// The client's own log, with addresses in memory.
		if !strings.HasPrefix(line, `{"level":`) {
			out = append(out, strings.TrimRight("! "+line, " "))
		}
	}
	if output.Code != 0 {
		out = append(out, fmt.Sprintf("= exit %d", output.Code))
	}
	return out
}

// execute runs a command to its end, or until it printed the lines asked for.
func (r *runner) execute(one command, program string, args []string) harness.Output {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	process := exec.CommandContext(ctx, program, args...)
	process.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+r.server.Endpoint())
	var stdout, stderr bytes.Buffer
	process.Stderr = &stderr
	input := strings.Join(append(one.stdin, ""), "\n")
	if one.lines == 0 {
		process.Stdin, process.Stdout = strings.NewReader(input), &stdout
		_ = process.Run()
		if ctx.Err() != nil {
			r.t.Fatalf("%s: still running\n%s%s", one.text, &stdout, &stderr)
		}
		return harness.Output{Stdout: stdout.String(), Stderr: stderr.String(),
			Code: process.ProcessState.ExitCode()}
	}
	stdin, err := process.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	pipe, err := process.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		r.t.Fatal(err)
	}
	if _, err := stdin.Write([]byte(input)); err != nil {
		r.t.Fatal(err)
	}
	scanner := bufio.NewScanner(pipe)
	scanner.Buffer(nil, 4<<20)
	for range one.lines {
		if !scanner.Scan() {
			r.t.Errorf("%s: ended or silent before %d lines\n%s%s", one.text, one.lines, &stdout,
				&stderr)
			break
		}
		stdout.WriteString(scanner.Text() + "\n")
	}
	_ = process.Process.Kill()
	_ = process.Wait()
	return harness.Output{Stdout: stdout.String()}
}

var wordPattern = regexp.MustCompile(`'[^']*'|[^\s']+`)

// words splits a command, and puts the values of this run for their names.
func (r *runner) words(text string) (words []string) {
	var current strings.Builder
	end := 0
	for _, at := range wordPattern.FindAllStringIndex(text, -1) {
		if at[0] > end && end > 0 {
			words = append(words, current.String())
			current.Reset()
		}
		current.WriteString(strings.Trim(text[at[0]:at[1]], "'"))
		end = at[1]
	}
	words = append(words, current.String())
	for i := range words {
		for _, known := range r.names {
			// The first form of an id is hexadecimal, as the tools read it.
			words[i] = strings.ReplaceAll(words[i], "${"+known.name+"}", known.value)
		}
	}
	return words
}

var (
	leaseGranted = regexp.MustCompile(`lease ([0-9a-f]{8,16}) granted|"ID":(\d{8,})`)
	masks        = []struct {
		pattern *regexp.Regexp
		name    string
	}{
		{regexp.MustCompile(`"(raft_term|raftTerm)":\d+`), `"$1":TERM`},
		{regexp.MustCompile(`"(RaftTerm|raft_term)" : \d+`), `"$1" : TERM`},
		{regexp.MustCompile(`etcdctl version: \S+`), "etcdctl version: TOOL"},
		{regexp.MustCompile(`took = [0-9.]+[µm]?s`), "took = TOOK"},
		{regexp.MustCompile(`"took":"[^"]*"`), `"took":"TOOK"`},
		{regexp.MustCompile(`"Took" : "[^"]*"`), `"Took" : "TOOK"`},
		{regexp.MustCompile(`\b[0-9.]+[µm]?s\b`), "TIME"},
		{regexp.MustCompile(`remaining\(\w+\)`), "remaining(TIME)"},
		{regexp.MustCompile(`/[0-9a-f]{8,16}\b`), "/LEASE"},
		{regexp.MustCompile(`"(TTL|ttl)":5\d\b`), `"$1":TIME`},
	}
	statusMasks = []struct {
		pattern *regexp.Regexp
		name    string
	}{
		{regexp.MustCompile(`\b[0-9.]+ [kMG]?B\b`), "SIZE"},
		{regexp.MustCompile(`\b\d+%`), "PERCENT"},
		{regexp.MustCompile(`"(raftIndex|raftAppliedIndex|raftTerm|dbSize|dbSizeInUse)":\d+`),
			`"$1":N`},
		{regexp.MustCompile(`"(RaftIndex|RaftAppliedIndex|RaftTerm|DBSize|DBSizeInUse)" : \d+`),
			`"$1" : N`},
		{regexp.MustCompile(`, \d+, \d+, \d+,`), ", TERM, INDEX, INDEX,"},
		{regexp.MustCompile(`│ +\d+ │ +\d+ │ +\d+ │`), "│ TERM │ INDEX │ INDEX │"},
		{regexp.MustCompile(`\| +\d+ \| +\d+ \| +\d+ \|`), "| TERM | INDEX | INDEX |"},
	}
	wide = regexp.MustCompile(` {2,}|─{2,}|-{3,}`)
)

func (r *runner) learnLeases(text string) {
	for _, match := range leaseGranted.FindAllStringSubmatch(text, -1) {
		base, digits := 16, match[1]
		if digits == "" {
			base, digits = 10, match[2]
		}
		id, err := strconv.ParseUint(digits, base, 64)
		if err != nil || r.known(digits) {
			continue
		}
		r.leases++
		r.nameID(fmt.Sprintf("LEASE%d", r.leases), id)
	}
}

func (r *runner) known(value string) bool {
	for _, known := range r.names {
		if known.value == value {
			return true
		}
	}
	return false
}

// masked writes names for the values of this run. Widths of tables depend on masked values.
func (r *runner) masked(text string, status bool) []string {
	if text == "" {
		return nil
	}
	for _, known := range r.names {
		text = strings.ReplaceAll(text, known.value, known.name)
	}
	if status {
		for _, mask := range statusMasks {
			text = mask.pattern.ReplaceAllString(text, mask.name)
		}
	}
	for _, mask := range masks {
		text = mask.pattern.ReplaceAllString(text, mask.name)
	}
	table := strings.ContainsAny(text, "│┌") || strings.Contains(text, "+--")
	var lines []string
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if table {
			line = wide.ReplaceAllStringFunc(line, func(s string) string {
				return string([]rune(s)[:1])
			})
		}
		if quoted := fmt.Sprintf("%q", line); strings.Contains(quoted, `\x`) {
			line = quoted
		}
		lines = append(lines, line)
	}
	return lines
}
