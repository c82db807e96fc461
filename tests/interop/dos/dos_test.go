package dos

import (
	"os"
	"strings"
	"testing"
	"time"

	"kvorum/interop/harness"
)

func TestMain(m *testing.M) {
	eatIfAsked()
	attackIfAsked(concat(rows, judgeRows))
	os.Exit(m.Run())
}

const (
	standardSeconds = 1
	longSeconds     = 60
)

// TestMatrix makes all attacks, one after the other.
func TestMatrix(t *testing.T) {
	program := harness.UnderTest(t)
	seconds := standardSeconds
	if os.Getenv("LONG") == "1" {
		seconds = longSeconds
	}
	seconds = harness.Int(t, "DOS_SECONDS", seconds)
	var prey *victim
	var of world
	for _, r := range rows {
		t.Run(strings.ReplaceAll(r.name, "/", "-"), func(t2 *testing.T) {
			if r.part != "" {
				harness.NeedsPart(t2, r.part)
			}
			if prey == nil || of != r.world || !prey.Running() {
				if prey != nil {
					prey.Kill()
				}
				// It lives as long as the rows of its world.
				prey, of = newVictim(t, program, r.world), r.world
			}
			length := max(float64(seconds), r.seconds)
			prey.judge(t2, r, time.Duration(length*float64(time.Second)))
		})
	}
}

// judge attacks, again if the machine stood still meanwhile, and says what is wrong.
func (v *victim) judge(t *testing.T, r row, length time.Duration) {
	for tries := 1; ; tries++ {
		trial := v.try(t, r, length)
		wrong := trial.wrong()
		t.Log(trial)
		if len(wrong) > 0 && !trial.died && trial.stoodStill() && tries < triesMax {
			t.Logf("again, for the machine stood still (%v alone, %v attacked) or worked for others "+
				"(%.0f %%): %s", trial.alone.stall, trial.attacked.stall, 100*trial.others,
				strings.Join(wrong, "; "))
			continue
		}
		for _, what := range wrong {
			if v.Program.Etcd {
				t.Logf("etcd: %s", what)
			} else {
				t.Error(what)
			}
		}
		if trial.died && v.Program.Etcd {
			// Its end is told, and is no failure.
			v.Kill()
		}
		return
	}
}
