package pod

import (
	"fmt"
	"strings"

	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
)

// A fault is why a pod cannot be used.
type fault struct {
	why   string
	unfit bool // no retry can help: the function asks for what cannot be
	keep  bool // the kubelet goes on trying, and the pod may come to run
	limit bool // it ended at a limit of its own
}

func (f *fault) Error() string { return f.why }

// Unwrap lets errors.Is find functions.ErrUnfit where that is so.
func (f *fault) Unwrap() error {
	if f.unfit {
		return functions.ErrUnfit
	}
	return nil
}

// faultLocked returns why r's pod cannot be used, or nil.
func (r *record) faultLocked() error {
	if r.gone || r.pod.Metadata.Deleted != nil {
		return &fault{why: "pod " + r.pod.Metadata.Name + " was deleted"}
	}
	if f := faultOf(r.pod); f != nil {
		f.why = "pod " + r.pod.Metadata.Name + ": " + f.why
		return f
	}
	return nil
}

// faultOf reads a pod's status.
func faultOf(p *kube.Pod) *fault {
	st := p.Status
	if st.Phase == kube.PodFailed || st.Phase == kube.PodSucceeded {
		if st.Reason != "" { // Evicted, OutOfmemory, OutOfcpu, NodeAffinity, …
			return &fault{why: said(st.Reason, st.Message)}
		}
		return &fault{why: "it has ended"}
	}
	if len(st.Containers) == 0 {
		return nil
	}
	c := st.Containers[0]
	if c.State.Waiting == nil {
		return nil
	}
	why := said(c.State.Waiting.Reason, c.State.Waiting.Message)
	switch c.State.Waiting.Reason {
	case "InvalidImageName":
		return &fault{why: why, unfit: true}
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable":
		return &fault{why: why, keep: true}
	case "CreateContainerConfigError":
		// Such as an image that can only run as root: its pod names another user.
		return &fault{why: why, unfit: strings.Contains(c.State.Waiting.Message, "runAsNonRoot")}
	case "CreateContainerError", "RunContainerError":
		return &fault{why: why}
	case "CrashLoopBackOff":
		f := endOf(c)
		f.why = "it keeps ending: " + f.why
		return f
	}
	return nil
}

// endOf says how a container ended last.
func endOf(c kube.ContainerStatus) *fault {
	t := c.State.Terminated
	if t == nil {
		t = c.LastState.Terminated
	}
	switch {
	case t == nil:
		return &fault{why: "nobody knows why"}
	case t.Reason == "OOMKilled":
		return &fault{why: "killed: memory limit", limit: true}
	}
	why := fmt.Sprintf("exit status %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		why = t.Reason + ", " + why
	}
	return &fault{why: said(why, lastLine(t.Message))}
}

// waiting says what a pod that does not run yet waits for, as far as is known.
func waiting(p *kube.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			return "is not placed: " + said(c.Reason, c.Message)
		}
	}
	if c := p.Status.Containers; len(c) > 0 && c[0].State.Waiting != nil {
		return "waits: " + said(c[0].State.Waiting.Reason, c[0].State.Waiting.Message)
	}
	if begun(p) {
		return "runs and is not ready"
	}
	return "has not begun to run"
}

// said joins a reason and what is said of it.
func said(reason, message string) string {
	const most = 500
	message = strings.ToValidUTF8(strings.TrimSpace(message), "\uFFFD")
	if len(message) > most {
		message = message[:most] + "…"
	}
	if message == "" {
		return reason
	}
	return reason + ": " + message
}

// lastLine returns the line that the keeper wrote, after all that its runner did.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
