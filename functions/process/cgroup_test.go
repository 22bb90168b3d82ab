package process

import (
	"maps"
	"testing"
)

func TestOwnGroupsAreFound(t *testing.T) {
	for name, test := range map[string]struct {
		mounts, own string
		want        map[string]string
	}{
		"version 2": {
			"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			"0::/system.slice/sedge.service\n",
			map[string]string{"": "/sys/fs/cgroup/system.slice/sedge.service"},
		},
		"version 2 in a container": {
			"900 899 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
			"0::/\n",
			map[string]string{"": "/sys/fs/cgroup"},
		},
		"version 1": {
			"35 26 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"36 26 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"37 26 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
			"9:pids:/user.slice/a\n8:memory:/user.slice\n7:cpu,cpuacct:/\n1:name=systemd:/init.scope\n",
			map[string]string{"pids": "/sys/fs/cgroup/pids/user.slice/a", "memory": "/sys/fs/cgroup/memory/user.slice", "cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct"},
		},
		"version 1 in a container whose mounts show its own group as the root": {
			"35 26 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"8:memory:/docker/abc\n",
			map[string]string{"memory": "/sys/fs/cgroup/memory"},
		},
		"nothing": {"", "", map[string]string{}},
		"noise":   {"a\n - cgroup\n1 2 3 4 5 - cgroup2 x y\n", "x\n0:\n", map[string]string{}},
	} {
		if got := locate(test.mounts, test.own); !maps.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
