package functions

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a manifest's lists.
const (
	MaxTriggers = 100
	maxEntries  = 100      // of labels, env, secrets, permissions each
	maxEnvBytes = 32 << 10 // names and values
)

// A features value says what of the manifest a version of sedge can honour.
// What is known but not available is refused as such, not as a mistake.
type features struct {
	runtimes  choice
	sandboxes choice
	modes     choice
	pins      choice
}

// A choice is a set of words, of which this version has some.
type choice struct{ available, later []string }

// thisVersion returns what this version of sedge can honour.
func thisVersion() features {
	return features{
		runtimes:  choice{[]string{"javascript", RuntimeImage}, []string{"wasm", "python", "exec"}},
		sandboxes: choice{available: []string{SandboxAuto, SandboxProcess, SandboxPod}},
		modes:     choice{available: []string{ModeEach, ModeOne}},
		pins:      choice{available: []string{PinNode, PinCluster}},
	}
}

// check returns what is wrong with a manifest, by this version's rules.
func check(m Manifest) []Fault {
	c := &checker{features: thisVersion()}
	c.manifest(withDefaults(m))
	return c.faults
}

// A checker gathers the faults of one manifest.
type checker struct {
	features features
	faults   []Fault
}

func (c *checker) add(field string, rule Rule, hint, format string, args ...any) {
	c.faults = append(c.faults, Fault{Field: field, Rule: rule, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (c *checker) manifest(m Manifest) {
	if m.APIVersion != APIVersion {
		c.add("apiVersion", missingOr(m.APIVersion, RuleValue), "write apiVersion: "+APIVersion, "must be %s", APIVersion)
	}
	if m.Kind != "Function" {
		c.add("kind", missingOr(m.Kind, RuleValue), "write kind: Function", "must be Function")
	}
	c.name("metadata.name", m.Metadata.Name)
	c.labels("metadata.labels", m.Metadata.Labels)
	c.spec(m.Spec)
}

// missingOr returns the rule that a wrong value breaks: an absent one is required.
func missingOr(value string, rule Rule) Rule {
	if value == "" {
		return RuleRequired
	}
	return rule
}

func (c *checker) spec(s Spec) {
	c.choice("spec.runtime", s.Runtime, c.features.runtimes)
	c.source(s)
	c.triggers(s)
	c.output(s)
	c.env(s.Env)
	c.secrets(s.Secrets)
	c.permissions(s.Permissions)
	c.resources(s.Resources)
	c.delivery(s)
	if s.Scaling.Min < 0 || s.Scaling.Min > 1 {
		c.add("spec.scaling.min", RuleRange, "", "must be 0 or 1, is %d", s.Scaling.Min)
	}
	bound(c, "spec.scaling.idle", s.Scaling.Idle, Duration(time.Second), Duration(day))
	c.placement(s)
	c.pod(s)
}

// pod wants that what only pods can do is not asked of a process, and that a
// container of the owner's is not promised what only a runner is given.
func (c *checker) pod(s Spec) {
	if s.Placement.Sandbox == SandboxProcess && s.Placement.Pin == PinCluster {
		c.add("spec.placement.pin", RuleConflict, "write sandbox: pod", "is cluster, and a process cannot leave its node")
	}
	if s.Runtime != RuntimeImage {
		return
	}
	if s.Placement.Sandbox == SandboxProcess {
		c.add("spec.placement.sandbox", RuleConflict, "write sandbox: pod", "is process, and an image runs in pods only")
	}
	if len(s.Secrets) > 0 {
		c.add("spec.secrets", RuleUnavailable, "", "a container of its own cannot be given secrets in this version")
	}
	if _, ok := s.Env["PORT"]; ok {
		c.add("spec.env.PORT", RuleValue, "listen on the port that PORT names", "belongs to the system with runtime: image")
	}
}

// choice wants one of the available words.
func (c *checker) choice(field, value string, of choice) {
	switch {
	case slices.Contains(of.available, value):
	case value == "":
		c.add(field, RuleRequired, "it can be "+sentence(of.available, "or"), "is missing")
	case slices.Contains(of.later, value):
		c.add(field, RuleUnavailable, "this version has "+sentence(of.available, "and"), "%s is not available in this version", value)
	default:
		c.add(field, RuleValue, didYouMean(value, slices.Concat(of.available, of.later)), "there is no %.40q", value)
	}
}

// bound wants a number from low to high.
func bound[T interface {
	~int | ~int64
}](c *checker, field string, value, low, high T) {
	if value < low || value > high {
		c.add(field, RuleRange, "", "must be from %v to %v, is %v", low, high, value)
	}
}

// Lengths are checked apart: a repetition up to 61 compiles into 61 copies, which
// every program that knows functions would hold from its start.
var (
	dnsLabel   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`)
	labelName  = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	dnsName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	envName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	cpuAmount  = regexp.MustCompile(`^([1-9][0-9]{1,5}m|[1-9][0-9]?|[0-9]{1,2}\.[0-9]{1,3})$`)
)

func (c *checker) name(field, name string) {
	switch {
	case name == "":
		c.add(field, RuleRequired, "", "is missing")
	case len(name) > 63 || !dnsLabel.MatchString(name):
		c.add(field, RuleValue, "use a to z, 0 to 9 and -, at most 63, with no - at either end", "%s is not a DNS label", quote(name))
	}
}

// labels checks by the rules of Kubernetes.
func (c *checker) labels(field string, labels map[string]string) {
	if len(labels) > maxEntries {
		c.add(field, RuleRange, "", "has %d entries, at most %d are taken", len(labels), maxEntries)
		return
	}
	for _, key := range sortedKeys(labels) {
		prefix, name, found := strings.Cut(key, "/")
		if !found {
			prefix, name = "", key
		}
		if len(name) > 63 || !labelName.MatchString(name) || found && (len(prefix) > 253 || !dnsName.MatchString(prefix)) {
			c.add(join(field, key), RuleValue, "use letters, digits, - _ . up to 63, with a letter or digit at either end", "%s is no name of a label", quote(key))
		}
		if value := labels[key]; len(value) > 63 || !labelValue.MatchString(value) {
			c.add(join(field, key), RuleValue, "use letters, digits, - _ . up to 63, with a letter or digit at either end", "%s is no value of a label", quote(value))
		}
	}
}

func (c *checker) source(s Spec) {
	const field = "spec.source"
	given := 0
	for _, text := range []string{s.Source.Path, s.Source.Inline, s.Source.Image} {
		if text != "" {
			given++
		}
	}
	switch {
	case given == 0:
		c.add(field, RuleRequired, "write source: {path: index.js}", "needs one of path, inline and image")
	case given > 1:
		c.add(field, RuleConflict, "", "has %d of path, inline and image, which exclude each other", given)
	case s.Source.Image != "":
		c.image(s)
	case s.Runtime == RuntimeImage:
		c.add(field, RuleConflict, "write source: {image: registry/name@sha256:…}", "holds code, and runtime: image runs none")
	case s.Source.Path != "":
		c.path(field+".path", s.Source.Path)
	}
}

// path wants a file within the manifest's folder.
func (c *checker) path(field, name string) {
	const hint = "name a file in the manifest's folder, such as index.js"
	switch {
	case len(name) > 255 || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\n\r\\"):
		c.add(field, RuleValue, hint, "%s is not the path of a file", quote(name))
	case path.IsAbs(name):
		c.add(field, RuleValue, hint, "%s is absolute", quote(name))
	case name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name, "/../") || strings.HasSuffix(name, "/.."):
		c.add(field, RuleValue, hint, "%s leads out of the manifest's folder", quote(name))
	case name == "." || path.Clean(name) != name:
		c.add(field, RuleValue, "write "+path.Clean(name), "%s is not written plainly", quote(name))
	}
}

var imageDigest = regexp.MustCompile(`^[a-z0-9][-a-z0-9._:/]*@sha256:[0-9a-f]{64}$`)

func (c *checker) image(s Spec) {
	const field = "spec.source.image"
	if s.Runtime != RuntimeImage {
		c.add(field, RuleConflict, "", "goes only with runtime: image")
	}
	if len(s.Source.Image) > 512 || !imageDigest.MatchString(s.Source.Image) {
		c.add(field, RuleValue, "a tag can be moved; write registry/name@sha256:…", "%s does not name an image by its digest", quote(s.Source.Image))
	}
}

func (c *checker) env(env map[string]string) {
	const field = "spec.env"
	if len(env) > maxEntries {
		c.add(field, RuleRange, "", "has %d entries, at most %d are taken", len(env), maxEntries)
		return
	}
	total := 0
	for _, name := range sortedKeys(env) {
		total += len(name) + len(env[name])
		switch {
		case len(name) > 128 || !envName.MatchString(name):
			c.add(join(field, name), RuleValue, "use letters, digits and _, not a digit first", "%s is no name of a variable", quote(name))
		case reserved(name):
			c.add(join(field, name), RuleValue, "choose another name", "%s belongs to the system", name)
		case strings.ContainsRune(env[name], 0):
			c.add(join(field, name), RuleValue, "", "holds a NUL")
		}
	}
	if total > maxEnvBytes {
		c.add(field, RuleRange, "", "weighs %d bytes, at most %d are taken", total, maxEnvBytes)
	}
}

// reserved reports whether a variable steers the loader, the shell or sedge.
func reserved(name string) bool {
	return name == "PATH" || strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "DYLD_") || strings.HasPrefix(name, "SEDGE_")
}

func (c *checker) secrets(names []string) {
	const field = "spec.secrets"
	if len(names) > maxEntries {
		c.add(field, RuleRange, "", "has %d entries, at most %d are taken", len(names), maxEntries)
		return
	}
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		c.name(at, name)
		if slices.Contains(names[:i], name) {
			c.add(at, RuleDuplicate, "", "%s is named twice", quote(name))
		}
	}
}

func (c *checker) permissions(p Permissions) {
	const field = "spec.permissions"
	if len(p.Publish) > maxEntries {
		c.add(field+".publish", RuleRange, "", "has %d entries, at most %d are taken", len(p.Publish), maxEntries)
	} else {
		for i, filter := range p.Publish {
			c.filter(fmt.Sprintf("%s.publish[%d]", field, i), filter)
		}
	}
	if len(p.HTTP) > 0 {
		c.add(field+".http", RuleUnavailable, "publish to a topic that a gateway listens to",
			"functions cannot reach the network in this version: that needs the egress proxy, which comes later")
	}
}

func (c *checker) resources(r Resources) {
	const field = "spec.resources"
	bound(c, field+".memory", r.Memory, 8<<20, 4<<30)
	bound(c, field+".timeout", r.Timeout, Duration(10*time.Millisecond), Duration(15*time.Minute))
	bound(c, field+".concurrency", r.Concurrency, 1, 64)
	if r.CPU != "" && !cpuAmount.MatchString(r.CPU) {
		c.add(field+".cpu", RuleValue, "write 500m for half a core, or 2", "%s is no amount of cores", quote(r.CPU))
	}
}

func (c *checker) delivery(s Spec) {
	const field = "spec.delivery"
	d, captures := s.Delivery, s.Captures()
	if !slices.Contains([]string{OrderDevice, OrderTopic, OrderNone}, d.Order) {
		c.expression(field+".order", d.Order, captures)
	}
	bound(c, field+".retry.attempts", d.Retry.Attempts, 1, 100)
	bound(c, field+".retry.backoff", d.Retry.Backoff, Duration(10*time.Millisecond), Duration(time.Hour))
	bound(c, field+".retry.max", d.Retry.Max, Duration(10*time.Millisecond), Duration(day))
	if d.Retry.Max < d.Retry.Backoff {
		c.add(field+".retry.max", RuleConflict, "", "is less than backoff, %v", d.Retry.Backoff)
	}
	if d.MaxAge != 0 {
		bound(c, field+".maxAge", d.MaxAge, Duration(time.Second), Duration(30*day))
	}
	bound(c, field+".publishRate", d.PublishRate, 1, 100_000)
	if d.Dedupe != nil {
		c.expression(field+".dedupe.key", d.Dedupe.Key, captures)
		bound(c, field+".dedupe.window", d.Dedupe.Window, Duration(time.Second), Duration(7*day))
	}
	bound(c, field+".inbox.deliveries", d.Inbox.Deliveries, 1, 1_000_000)
	bound(c, field+".inbox.bytes", d.Inbox.Bytes, 64<<10, 1<<30)
}

// expression wants one that compiles.
func (c *checker) expression(field, source string, captures []string) {
	_, err := CompileExpression(source, captures)
	c.slips(field, err)
}

// slips adds what is wrong with the expression in field, if anything.
func (c *checker) slips(field string, err error) {
	if err == nil {
		return
	}
	found, ok := err.(slips)
	if !ok {
		found = slips{{message: err.Error()}}
	}
	for _, s := range found {
		c.faults = append(c.faults, Fault{Field: field, Rule: RuleExpression, Message: s.String(), Hint: s.hint, within: s.at})
	}
}

// quote puts a name into a message so that what looks like another shows.
func quote(s string) string {
	const enough = 64
	if len(s) > enough {
		return fmt.Sprintf("%+q…", s[:enough])
	}
	return fmt.Sprintf("%+q", s)
}

// Captures returns the names that the filters of all MQTT triggers catch: those
// on which output.topic, delivery.order and dedupe.key can count.
func (s Spec) Captures() []string {
	var common map[string]bool
	for _, t := range s.Triggers {
		if t.MQTT == nil {
			continue
		}
		names := map[string]bool{}
		for _, name := range capturesOf(t.MQTT.Topic) {
			names[name] = true
		}
		if common == nil {
			common = names
			continue
		}
		maps.DeleteFunc(common, func(name string, _ bool) bool { return !names[name] })
	}
	return sortedKeys(common)
}
