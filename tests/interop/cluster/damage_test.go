package cluster

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

// damagePlan leaves the machine time for what is watched here.
var damagePlan = rig.Plan{Free: 4, Rate: 400, Probes: 50}

// kvorumOnly skips what etcd does not promise.
func kvorumOnly(t *testing.T) {
	harness.NeedsPart(t, "cluster")
	if harness.UnderTest(t).Etcd {
		t.Skip("etcd does not heal, nor does it refuse a member that lost its log")
	}
}

// A follower's engine is damaged while it is away, all of it or one value only. It comes back whole
// under its id; whoever started it may have to do so again.
func TestDamagedState(t *testing.T) {
	kvorumOnly(t)
	c := rig.Start(t, 3)
	l := rig.NewLoad(t, c, damagePlan)
	w := l.Worker(1, c.Client(c.Endpoints()...))
	for _, damage := range []struct {
		what string
		make func(file []byte)
	}{
		{"all of it", func(file []byte) {
			for i := 8192; i < len(file); i++ {
				file[i] ^= 0x5a
			}
		}},
		{"one value", func(file []byte) {
			for i := bytes.Index(file, []byte("precious")); i >= 0; {
				file[i] ^= 1
				i = bytes.Index(file, []byte("precious"))
			}
		}},
	} {
		ctx := harness.ContextFor(t, time.Minute)
		l.Ask("put", func(ctx context.Context) error {
			return w.Put(ctx, "k/kept", "precious "+w.Value())
		})
		leader := c.Leader()
		member := c.Others(leader)[0]
		id := member.ID()
		if err := member.Stop(); err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(member.Options.DataDir, "member")
		path := newest(t, filepath.Join(folder, "state", "*", "redb"))
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damage.make(file)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		starts := 0
		harness.Eventually(t, time.Minute, func() string {
			if member.Running() {
				_, _ = c.Client(member.Endpoint()).Get(ctx, "k/kept", clientv3.WithSerializable())
			} else {
				starts++
				if err := member.Spawn(); err != nil {
					t.Fatal(err)
				}
				_ = member.WaitReady()
			}
			if aside, _ := filepath.Glob(filepath.Join(folder, "damaged-*")); len(aside) != 1 {
				return "nothing was put aside"
			}
			return ""
		})
		if err := member.WaitReady(); err != nil {
			t.Fatal(err)
		}
		if now := member.ID(); now != id {
			t.Errorf("%x came back as %x", id, now)
		}
		t.Logf("%s: healed after %d starts", damage.what, starts)
		// Once an hour is enough, but not here.
		aside, _ := filepath.Glob(filepath.Join(folder, "damaged-*"))
		for _, folder := range aside {
			_ = os.RemoveAll(folder)
		}
	}
	l.Finish()
}

func newest(t testing.TB, pattern string) string {
	t.Helper()
	paths, _ := filepath.Glob(pattern)
	if len(paths) == 0 {
		t.Fatalf("there is no %s", pattern)
	}
	return paths[len(paths)-1]
}

var inBackticks = regexp.MustCompile("`([^`]+)`")

// The log of a member is lost. It refuses to start and says what to do; done word by word, that
// helps.
func TestForgottenLog(t *testing.T) {
	kvorumOnly(t)
	c := rig.Start(t, 3)
	l := rig.NewLoad(t, c, damagePlan)
	member := c.Others(c.Leader())[0]
	id := member.ID()
	l.UnderLoad()
	member.LoseLog()
	if err := member.Spawn(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, harness.Patience, func() string {
		if member.Running() {
			return "a member without its log runs"
		}
		return ""
	})
	text, err := os.ReadFile(member.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	_, said, _ := strings.Cut(string(text), "must not come back under its id")
	commands := inBackticks.FindAllStringSubmatch(said, -1)
	if len(commands) != 3 || !strings.Contains(said, "--initial-cluster-state=existing") {
		t.Fatalf("it says: %s", said)
	}
	var endpoints []string
	for _, other := range c.Others(member) {
		endpoints = append(endpoints, other.Endpoint())
	}
	output := ""
	for _, command := range commands {
		t.Log(command[1])
		l.Ask(command[1], func(ctx context.Context) error {
			shell := exec.CommandContext(ctx, "sh", "-c", command[1])
			shell.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+strings.Join(endpoints, ","),
				"PATH="+filepath.Dir(harness.Etcdctl(t))+":"+os.Getenv("PATH"))
			printed, err := shell.CombinedOutput()
			output = string(printed)
			if err != nil {
				return fmt.Errorf("%w: %s", err, printed)
			}
			return nil
		})
	}
	printed := regexp.MustCompile(`ETCD_INITIAL_CLUSTER="([^"]+)"`).FindStringSubmatch(output)
	if printed == nil {
		t.Fatalf("member add printed %s", output)
	}
	member.Options.InitialCluster, member.Options.Joins = printed[1], true
	member.Back()
	if member.ID() == id {
		t.Error("it came back under its id")
	}
	l.Finish()
}

// The logs of a follower and of the leader are lost, one after the other, and nobody does anything
// but start them again.
func TestAutoReplace(t *testing.T) {
	kvorumOnly(t)
	c := rig.Start(t, 3, "--auto-replace")
	l := rig.NewLoad(t, c, damagePlan)
	for _, member := range []*rig.Member{c.Others(c.Leader())[0], c.Leader()} {
		id := member.ID()
		step(t, l, "replaced by itself", func() {
			member.LoseLog()
			member.Back()
		})
		if member.ID() == id {
			t.Error("it came back under its id")
		}
		list, err := c.Client(c.Endpoints()...).MemberList(harness.ContextFor(t, harness.Patience))
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Members) != 3 {
			t.Errorf("%d members", len(list.Members))
		}
		for _, one := range list.Members {
			if one.IsLearner || one.ID == id {
				t.Errorf("there is %v", one)
			}
		}
	}
	l.Finish()
}

// A follower is killed again and again while it receives and installs a snapshot.
func TestSnapshotKills(t *testing.T) {
	kvorumOnly(t)
	c := rig.Start(t, 3, "--snapshot-count=1000", "--snapshot-catchup-entries=100",
		"--quota-backend-bytes=8589934592")
	l := rig.NewLoad(t, c, rig.Plan{Free: 2, Rate: 400, Probes: 50})
	follower := c.Others(c.Leader())[0]
	var others []string
	for _, member := range c.Others(follower) {
		others = append(others, member.Endpoint())
	}
	l.ProbeThrough(c.Client(others...))
	random := rand.New(rand.NewSource(harness.Seed(t)))
	follower.Kill()
	l.Fill(others, long(100, 256)<<20/rig.FillValue)
	within, amid, after, kills := 1500*time.Millisecond, 0, 0, long(4, 120)
	for range kills {
		begun := follower.Logged()
		if err := follower.Spawn(); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, time.Minute, func() string {
			if !strings.Contains(follower.Logged()[len(begun):], `"receiving a snapshot"`) {
				return "no snapshot comes"
			}
			return ""
		})
		pause := time.Duration(random.Int63n(int64(within)))
		time.Sleep(pause)
		follower.Kill()
		switch said := follower.Logged()[len(begun):]; {
		case strings.Contains(said, `"installed a snapshot"`):
			// Most of the next ones shall come before that.
			within, after = max(pause, within/2), after+1
		default:
			within, amid = within*5/4, amid+1
		}
		// It shall need another one, even if it has this one and was killed before it said so.
		enough := l.Answers() + 1000
		harness.Eventually(t, time.Minute, func() string {
			if l.Answers() < enough {
				return "too little load"
			}
			return ""
		})
		verify := exec.Command(c.Program.Path, "verify", follower.Options.DataDir)
		if text, err := verify.CombinedOutput(); err != nil {
			t.Fatalf("after a kill: %v: %s", err, text)
		}
	}
	follower.Back()
	t.Logf("%d kills: %d amid a snapshot, %d after it was installed", kills, amid, after)
	if amid < kills/4 {
		t.Error("too few kills came amid a snapshot")
	}
	l.Finish()
}
