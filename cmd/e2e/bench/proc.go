package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Memory is what a process holds, in bytes.
type Memory struct{ RSS, PSS, Anonymous int64 }

func memoryOf(pid int) (m Memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return Memory{}, err
	}
	for line := range bytes.Lines(text) {
		switch f := strings.Fields(string(line)); f[0] {
		case "Rss:":
			m.RSS = kilobytes(f)
		case "Pss:":
			m.PSS = kilobytes(f)
		case "Anonymous:":
			m.Anonymous = kilobytes(f)
		}
	}
	return m, nil
}

func kilobytes(fields []string) int64 {
	n, _ := strconv.ParseInt(fields[1], 10, 64) // the kernel writes numbers
	return n << 10
}

// family returns pid and every process below it, parents first.
func family(pid int) []int {
	all := []int{pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range lists {
		text, _ := os.ReadFile(name) // the thread may be gone
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				all = append(all, family(child)...)
			}
		}
	}
	return all
}

// written returns how many bytes a node and its runners have sent to storage, as
// the kernel counts them; a parent's count takes over those of its dead.
func written(pid int) (sum int64) {
	for _, p := range family(pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", p)) // a runner may have gone meanwhile
		for line := range bytes.Lines(text) {
			if n, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("write_bytes: ")); ok {
				count, _ := strconv.ParseInt(string(n), 10, 64) // the kernel writes numbers
				sum += count
			}
		}
	}
	return sum
}

// countsWrites reports whether what is written into dir shows in the kernel's
// counts, which a file system in memory keeps out of.
func countsWrites(dir string) (bool, error) {
	f, err := os.CreateTemp(dir, "probe")
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	before := written(os.Getpid())
	if _, err := f.Write(make([]byte, 64<<10)); err != nil {
		return false, err
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	return written(os.Getpid()) > before, nil
}

// machine describes where the figures come from.
func machine() string {
	model, cores := "unknown processor", 0
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(string(line), ":")
		switch strings.TrimSpace(key) {
		case "model name", "Model":
			model = strings.TrimSpace(value)
		case "processor":
			cores++
		}
	}
	var u syscall.Utsname
	syscall.Uname(&u) // cannot fail
	var info syscall.Sysinfo_t
	syscall.Sysinfo(&info)
	memory := float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	return fmt.Sprintf("%s, %d cores, %.0f GiB, Linux %s", model, cores, memory, chars(u.Release[:]))
}

func chars[T int8 | uint8](c []T) string {
	var b []byte
	for _, x := range c {
		if x == 0 {
			break
		}
		b = append(b, byte(x))
	}
	return string(b)
}
