package node

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"text/template"
	"time"
)

// A component is a program of the node.
type component struct {
	name    string
	command []string
	healthy func(context.Context) error // nil once it does its work; called again and again
}

// components returns those of the node, in the order in which they are started.
func components(o Options, p place, api *API) []component {
	kubernetes := filepath.Join(p.tools, "kubernetes")
	key := func(name string) string { return filepath.Join(p.pki, name) }
	login := func(who string) []string {
		file := key(who + ".kubeconfig")
		return []string{"--kubeconfig=" + file, "--authentication-kubeconfig=" + file, "--authorization-kubeconfig=" + file,
			"--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false"}
	}
	return []component{
		{"containerd", []string{"containerd", "-c", filepath.Join(p.state, "containerd.toml")}, socket("/run/containerd/containerd.sock")},
		{"kine", []string{kubernetes, "kine", "--listen=/run/kine.sock", "--db=" + filepath.Join(p.state, "kubernetes.db")}, socket("/run/kine.sock")},
		{"apiserver", append([]string{kubernetes, "kube-apiserver"}, apiserverFlags(key)...), api.answers},
		{"controller-manager", append([]string{kubernetes, "kube-controller-manager",
			"--service-account-private-key-file=" + key("sa.key"), "--root-ca-file=" + key("ca.crt")}, login("controller-manager")...), alive},
		{"scheduler", append([]string{kubernetes, "kube-scheduler"}, login("scheduler")...), alive},
		{"kubelet", []string{kubernetes, "kubelet",
			"--config=" + filepath.Join(p.state, "kubelet.yaml"), "--kubeconfig=" + key("kubelet.kubeconfig"),
			"--root-dir=" + filepath.Join(p.state, "kubelet"), "--cert-dir=" + filepath.Join(p.state, "kubelet/pki"),
			"--hostname-override=" + o.Name, "--node-ip=" + Address}, says("http://127.0.0.1:10248/healthz")},
		{"kube-proxy", []string{kubernetes, "kube-proxy", "--config=" + filepath.Join(p.state, "kube-proxy.yaml")}, alive},
	}
}

func apiserverFlags(key func(string) string) []string {
	return []string{
		"--etcd-servers=unix:///run/kine.sock",
		"--advertise-address=" + Address, "--bind-address=0.0.0.0", "--secure-port=" + apiPort,
		"--service-cluster-ip-range=" + serviceIPs,
		"--tls-cert-file=" + key("apiserver.crt"), "--tls-private-key-file=" + key("apiserver.key"),
		"--client-ca-file=" + key("ca.crt"),
		"--kubelet-client-certificate=" + key("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + key("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority=" + key("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + key("sa.key"), "--service-account-signing-key-file=" + key("sa.key"),
		// Without these the controllers log errors without end.
		"--requestheader-client-ca-file=" + key("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true", "--profiling=false",
	}
}

// alive is for those that nobody waits for.
func alive(context.Context) error { return nil }

func socket(path string) func(context.Context) error {
	return func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

func says(url string) func(context.Context) error {
	client := &http.Client{Timeout: 5 * time.Second}
	return func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, answer.Status)
		}
		return nil
	}
}

//go:embed config
var configs embed.FS

// configure writes the files that the components read, below state.
func configure(o Options, p place) error {
	for _, dir := range []string{"containerd", "cni/net.d", "kubelet", "podlogs", "volumeplugins"} {
		if err := os.MkdirAll(filepath.Join(p.state, dir), 0o755); err != nil {
			return err
		}
	}
	all, err := template.ParseFS(configs, "config/*")
	if err != nil {
		return err
	}
	values := map[string]string{"Name": o.Name, "State": p.state, "PKI": p.pki, "Debs": p.debs,
		"Pause": pauseImage, "PodSubnet": podSubnet, "PodRange": podRange}
	for _, one := range all.Templates() {
		var text bytes.Buffer
		if err := one.Execute(&text, values); err != nil {
			return err
		}
		file := filepath.Join(p.state, one.Name())
		if one.Name() == "10-bridge.conflist" {
			file = filepath.Join(p.state, "cni/net.d", one.Name())
		}
		if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(p.state, "resolv.conf"), nil, 0o644) // pods have no name server
}
