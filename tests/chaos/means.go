package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kvorum/interop/harness"
	"kvorum/interop/rig"
)

// means are what faults need of this machine, and how it shows that it has them.
var means = []struct {
	name, words string
	try         func(t *testing.T) bool
}{
	{disks, "disks of its own: root, loop mounts, FS_IOC_SHUTDOWN of ext4, mkfs.ext4 " +
		"(Debian: e2fsprogs)", tryDisk},
	{tracing, "strace that injects (Debian: strace)", tryTracing},
	{clocks, "libfaketime (Debian: faketime)", func(*testing.T) bool { return tryClocks() }},
	{narrowing, "tc with htb and u32 (Debian: iproute2)", tryNarrowing},
	{slowing, "tun devices", func(t *testing.T) bool { return rig.CanSlow(t) }},
	{losing, "nft with numgen (Debian: nftables)", tryLosing},
	{certificates, "openssl (Debian: openssl)", func(*testing.T) bool { return has("openssl") }},
}

const (
	disks        = "disks"
	tracing      = "tracing"
	clocks       = "clocks"
	narrowing    = "narrowing"
	slowing      = "slowing"
	losing       = "losing"
	certificates = "certificates"
)

// lacks tells what this machine has no means for.
func lacks(t *testing.T) map[string]string {
	lacking := map[string]string{}
	for _, one := range means {
		found := false
		// What is missing skips, or fails where it must not be missing.
		t.Run("has_"+one.name, func(t *testing.T) { found = one.try(t) })
		if !found {
			lacking[one.name] = "needs " + one.words
			if os.Getenv("REQUIRE_FAULTS") == "1" {
				t.Error("this machine needs " + one.words)
			}
		}
	}
	return lacking
}

func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func tryDisk(t *testing.T) bool {
	disk := harness.NewDisk(t, 16, diskOptions)
	disk.Cut()
	disk.Remount()
	return true
}

// tryTracing lets a sync fail that would not.
func tryTracing(t *testing.T) bool {
	if !has("strace") {
		return false
	}
	file := filepath.Join(harness.TempDir(t), "file")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.Command("strace", "-f", "-o", "/dev/null", "-e", "inject=fsync:error=EIO",
		"sync", file).Run() != nil
}

func tryClocks() bool {
	year := exec.Command("date", "+%Y")
	year.Env = append(os.Environ(), "LD_PRELOAD="+libfaketime(), "FAKETIME=-3000d")
	text, err := year.CombinedOutput()
	plain, _ := exec.Command("date", "+%Y").Output()
	return err == nil && libfaketime() != "" && string(text) != string(plain)
}

// libfaketime is where its library is, as faketime says; empty if it is not there.
func libfaketime() string {
	command := exec.Command("faketime", "-m", "-f", "+0", "sh", "-c", "echo $LD_PRELOAD")
	text, err := command.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func tryNarrowing(t *testing.T) bool {
	network := rig.NewNetwork(t)
	network.Narrow(network.Add(), 1000)
	return true
}

func tryLosing(t *testing.T) bool {
	network := rig.NewNetwork(t)
	network.Add()
	network.Lose(10)
	return true
}
