// Package arm keeps sedge at home on small boards. It is vocabulary: so far the
// one place that says under which name the agent's image goes to a cluster, for
// whoever builds it, runs it or writes it into a manifest. How the image is made
// is left to the package image below.
package arm

import "strings"

// AgentImage is the name of the agent's image, without a tag. It is the runner's
// too: both are one program.
const AgentImage = "ghcr.io/sedge-iot/sedge-agent"

// maxTag is the most that a tag may have, in bytes.
const maxTag = 128

// AgentReference returns the full name of the agent's image of a version, as
// settings.Version tells it.
func AgentReference(version string) string { return AgentImage + ":" + tag(version) }

// tag turns a version into what may stand behind the colon: v1.2.3+dirty, whose
// plus no registry takes, into v1.2.3-dirty.
func tag(version string) string {
	t := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, version)
	t = strings.Trim(t, "-.")
	return t[:min(len(t), maxTag)]
}
