package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"kvorum/interop/rig"
)

// Tally is what came of one kind of fault.
type Tally struct {
	// Took is, for each fault that counts, the time until a write was acknowledged that was begun
	// after it; of what goes on for a while, the longest time without an acknowledged write.
	Took []time.Duration
	// Before are the writes acknowledged in the second before each of these.
	Before []int
	// Idle faults met too little load, and Unsteady ones a machine that stood still.
	Idle, Unsteady int
	// Outcomes are how often it ended in which way, where there are several.
	Outcomes map[string]int `json:",omitempty"`
}

// Leases are what became of those that clients held.
type Leases struct {
	// Kept ones were renewed all the time, and so many of them were Lost.
	Kept, Lost int
	// Dropped ones were renewed for a while; Early ones ended before their time, Late ones did not.
	Dropped, Early, Late int
}

// Report is what one round came to, or many.
type Report struct {
	Seed    int64
	Round   int
	Began   time.Time
	Seconds float64
	// Setup is the cluster's, in words.
	Setup   string
	Faults  map[string]*Tally
	Verdict rig.Verdict
	Leases  Leases
	// Stall is how long the machine itself stood still at a time.
	Stall time.Duration
	// Failed rounds are those with a violation, or one that did not come to its end.
	Failed bool
}

// tally is that of a kind of fault.
func (r *Report) tally(kind string) *Tally {
	if r.Faults == nil {
		r.Faults = map[string]*Tally{}
	}
	if r.Faults[kind] == nil {
		r.Faults[kind] = &Tally{}
	}
	return r.Faults[kind]
}

// Append adds a report to a file of such lines.
func (r *Report) Append(path string) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.Write(append(line, '\n'))
	return err
}

// Read gives back what was appended to a file.
func Read(path string) (reports []*Report, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		r := &Report{}
		if err := json.Unmarshal(lines.Bytes(), r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		reports = append(reports, r)
	}
	return reports, lines.Err()
}

// Sums are many reports in one.
type Sums struct {
	Report
	Rounds, FailedRounds int
	// failures tell which.
	failures []string
}

// Sum adds reports up.
func Sum(reports []*Report) (s Sums) {
	for _, r := range reports {
		s.Rounds++
		s.Seconds += r.Seconds
		if r.Failed {
			s.FailedRounds++
			s.failures = append(s.failures, fmt.Sprintf("round %d of SEED=%d (%s) failed; the "+
				"machine stood still for %v at most", r.Round, r.Seed, r.Setup, rig.Milli(r.Stall)))
		}
		for kind, one := range r.Faults {
			s.tally(kind).add(one)
		}
		s.Verdict.Add(r.Verdict)
		s.Leases.Kept += r.Leases.Kept
		s.Leases.Lost += r.Leases.Lost
		s.Leases.Dropped += r.Leases.Dropped
		s.Leases.Early += r.Leases.Early
		s.Leases.Late += r.Leases.Late
	}
	return s
}

func (all *Tally) add(one *Tally) {
	all.Took = append(all.Took, one.Took...)
	all.Before = append(all.Before, one.Before...)
	all.Idle += one.Idle
	all.Unsteady += one.Unsteady
	for words, count := range one.Outcomes {
		if all.Outcomes == nil {
			all.Outcomes = map[string]int{}
		}
		all.Outcomes[words] += count
	}
}

// Print writes the table; skipped kinds are told with what they lack.
func (s *Sums) Print(out io.Writer, skipped map[string]string) {
	fmt.Fprintf(out, "\n| fault | times | to the next write: p50 | longest | writes/s before: p50 | "+
		"least | too little load | the machine stood still |\n|---|---|---|---|---|---|---|---|\n")
	times, uncounted := 0, 0
	kinds := slices.Sorted(maps.Keys(s.Faults))
	for _, kind := range kinds {
		one := s.Faults[kind]
		slices.Sort(one.Took)
		slices.Sort(one.Before)
		fmt.Fprintf(out, "| %s | %d | %v | %v | %d | %d | %d | %d |\n", kind, len(one.Took),
			rig.Milli(at(one.Took, 0.5)), rig.Milli(at(one.Took, 1)), at(one.Before, 0.5),
			at(one.Before, 0), one.Idle, one.Unsteady)
		times += len(one.Took)
		uncounted += one.Idle + one.Unsteady
	}
	for _, kind := range slices.Sorted(maps.Keys(skipped)) {
		fmt.Fprintf(out, "| %s | SKIPPED: %s |\n", kind, skipped[kind])
	}
	fmt.Fprintln(out)
	for _, kind := range kinds {
		for _, words := range slices.Sorted(maps.Keys(s.Faults[kind].Outcomes)) {
			fmt.Fprintf(out, "%s: %s, %d times\n", kind, words, s.Faults[kind].Outcomes[words])
		}
	}
	fmt.Fprintf(out, "%d faults of %d kinds counted, %d not; %d kinds skipped; %d rounds in %v\n",
		times, len(s.Faults), uncounted, len(skipped), s.Rounds,
		(time.Duration(s.Seconds) * time.Second).String())
	s.printCounts(out)
}

// printCounts writes what was judged, and what was wrong.
func (s *Sums) printCounts(out io.Writer) {
	v := s.Verdict
	fmt.Fprintf(out, "%d operations judged: %d writes and %d reads answered, %d writes without an "+
		"answer of which %d happened; %d revisions; %d events heard by %d watches\n", v.Operations,
		v.Writes, v.Reads, v.Unknown, v.Happened, v.Revisions, v.Events, v.Watches)
	fmt.Fprintf(out, "%d leases kept alive, %d of them lost; %d let go, %d of them ended too early, "+
		"%d not at all\n", s.Leases.Kept, s.Leases.Lost, s.Leases.Dropped, s.Leases.Early,
		s.Leases.Late)
	fmt.Fprintf(out, "%d violations; %d rounds failed\n", len(v.Violations), s.FailedRounds)
	for _, line := range append(s.failures, v.Violations...) {
		fmt.Fprintln(out, line)
	}
}

// at is a quantile of sorted numbers.
func at[T any](sorted []T, quantile float64) (one T) {
	if len(sorted) == 0 {
		return one
	}
	return sorted[min(int(quantile*float64(len(sorted))), len(sorted)-1)]
}
