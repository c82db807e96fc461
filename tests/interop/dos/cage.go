package dos

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// memoryMax is what a server under attack may take.
const memoryMax = 512 << 20

// cage is the memory group a server lives in: what takes more is killed by the kernel. Where no
// group can be made, the server's memory is only looked at.
type cage struct {
	// procs is the file that takes a process in; empty without a group.
	procs string
}

var cages atomic.Int64

// newCage makes a group of the first or second kind.
func newCage(t testing.TB) *cage {
	t.Helper()
	name := fmt.Sprintf("kvorum-dos-%d-%d", os.Getpid(), cages.Add(1))
	for _, kind := range []struct{ root, limit, swap string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max"},
	} {
		// Whatever else is there is no group, though folders can be made in it.
		folder := filepath.Join(kind.root, name)
		if _, err := os.Stat(filepath.Join(kind.root, "cgroup.procs")); err != nil {
			continue
		}
		if os.Mkdir(folder, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { removeGroup(folder) })
		limit := []byte(strconv.Itoa(memoryMax))
		if os.WriteFile(filepath.Join(folder, kind.limit), limit, 0o644) != nil {
			continue
		}
		// A machine without swap accounting has no such file.
		_ = os.WriteFile(filepath.Join(folder, kind.swap), limit, 0o644)
		return &cage{procs: filepath.Join(folder, "cgroup.procs")}
	}
	t.Logf("no memory group can be made here: the cap of %d MiB is looked at, not enforced",
		memoryMax>>20)
	return &cage{}
}

// removeGroup waits for the kernel to see that the group is empty.
func removeGroup(folder string) {
	for range 100 {
		if os.Remove(folder) == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// through is the command that starts a program inside.
func (c *cage) through() []string {
	if c.procs == "" {
		return nil
	}
	return []string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, c.procs}
}

// memory is what a process has of its own, without the pages of its files, which the kernel takes
// back when it needs them.
func memory(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// descriptors is how many files and connections a process has open.
func descriptors(pid int) int {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}
	return len(open)
}

// processor is the time a process has had of all processors.
func processor(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// busy is the time that all processors have worked, for whomever, since the machine was started.
func busy() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	var user, nice, system int64
	_, _ = fmt.Sscanf(string(text), "cpu %d %d %d", &user, &nice, &system)
	return time.Duration(user+nice+system) * 10 * time.Millisecond
}

// peaks are the most that a process took while it was looked at.
type peaks struct {
	memory, descriptors atomic.Uint64
	stop, done          chan struct{}
}

// lookAt begins to look at a process, fifty times a second.
func lookAt(pid int) *peaks {
	p := &peaks{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for {
			p.memory.Store(max(p.memory.Load(), memory(pid)))
			p.descriptors.Store(max(p.descriptors.Load(), uint64(descriptors(pid))))
			select {
			case <-p.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return p
}

func (p *peaks) end() {
	close(p.stop)
	<-p.done
}
