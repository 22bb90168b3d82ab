package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

const (
	defaultHub = "http://127.0.0.1:7780"
	hubData    = "/var/lib/sedge-hub" // of a sedge-hub on this machine
	hubCAFile  = "ca.crt"
)

// hubVerb makes cmd one that speaks to the hub.
func (sh *shell) hubVerb(cmd *cobra.Command) *cobra.Command {
	f := cmd.PersistentFlags()
	f.StringVar(&sh.hub, "hub", defaultHub, "where the hub is, a `URL`")
	f.StringVar(&sh.token, "token", "", "the hub's `TOKEN`; a file is safer")
	f.StringVar(&sh.tokenFile, "token-file", "", "`FILE` with the hub's token (default: the one that sedge up made here)")
	f.StringVar(&sh.hubCA, "hub-ca", "", "`FILE` with the certificate authority of the hub, PEM (default: that of a sedge-hub here, else the system's)")
	settings.Rename(f, "hub", "SEDGE_HUB_URL")
	return cmd
}

// nodeVerb makes cmd one that asks the hub about a node.
func (sh *shell) nodeVerb(cmd *cobra.Command) *cobra.Command {
	cmd.PersistentFlags().StringVar(&sh.node, "node", "", "the `NODE` that is meant, where the hub has several")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("node", sh.completeNodes))
	return sh.hubVerb(cmd)
}

// client returns a client of the hub that the user means.
func (sh *shell) client() (*client.Client, error) {
	if err := sh.hubIsMeant(); err != nil {
		return nil, err
	}
	if u, err := url.Parse(sh.hub); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, wrongUsage("like "+defaultHub, "--hub: %q is no address of a hub", sh.hub)
	}
	token, err := sh.findToken()
	if err != nil {
		return nil, err
	}
	c := client.New(sh.hub, token)
	if u, err := user.Current(); err == nil {
		c.User = u.Username
	}
	if err := sh.trust(c); err != nil {
		return nil, err
	}
	if sh.node != "" {
		c = c.On(sh.node)
	}
	return c, nil
}

// trust tells c which authority the hub's certificate is of, if it is not one that
// the system knows.
func (sh *shell) trust(c *client.Client) error {
	if !strings.HasPrefix(sh.hub, "https:") {
		return nil
	}
	file := sh.hubCA
	if file == "" {
		file = filepath.Join(hubData, hubCAFile)
	}
	data, err := os.ReadFile(file)
	if sh.hubCA == "" && err != nil {
		return nil // no sedge-hub is here, or it is not ours to read
	}
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(data) {
		return wrongUsage("sedge-hub keeps its own as "+hubCAFile+" in its data directory; copy that", "read --hub-ca %s: %s", file, cmp.Or(err, errors.New("no certificate in it")))
	}
	c.Trust(roots)
	return nil
}

// hubIsMeant refuses to ask a hub on this machine when a cluster is meant.
func (sh *shell) hubIsMeant() error {
	for _, name := range []string{"SEDGE_KUBECONFIG", "SEDGE_KUBE_CONTEXT"} {
		if v, _ := sh.lookup(name); v != "" && sh.hub == defaultHub {
			return wrongUsage("deploy, list, describe, delete and node speak to a cluster; for a hub, unset "+name,
				"this command asks a hub, but %s names a cluster", name)
		}
	}
	return nil
}

// ask has do speak to the hub about a function ("" for none in particular) and
// explains its error.
func (sh *shell) ask(ctx context.Context, function string, do func(*client.Client) error) error {
	c, err := sh.client()
	if err != nil {
		return err
	}
	if err := do(c); err != nil {
		return sh.explain(ctx, err, function)
	}
	return nil
}

// findToken returns the token that was given, else that of a hub on this
// machine, else "".
func (sh *shell) findToken() (string, error) {
	if sh.token != "" {
		return sh.token, nil
	}
	if sh.tokenFile != "" {
		data, err := os.ReadFile(sh.tokenFile)
		if err != nil {
			return "", wrongUsage("sedge up says at start where its token is", "read token: %s", err)
		}
		return strings.TrimSpace(string(data)), nil
	}
	for _, name := range sh.tokenFiles() {
		data, err := os.ReadFile(name)
		switch {
		case err == nil:
			return strings.TrimSpace(string(data)), nil
		case errors.Is(err, fs.ErrPermission):
			return "", &edge.Error{Code: edge.Denied, Message: fmt.Sprintf("read token: %s", err), Hint: "run it with sudo, or set SEDGE_TOKEN_FILE to a copy that you may read"}
		}
	}
	return "", nil
}

// tokenFiles lists where hubs on this machine keep their token.
func (sh *shell) tokenFiles() []string {
	mine := filepath.Join(sh.home(), tokenFile)
	all := []string{mine}
	if system := filepath.Join(systemData, tokenFile); system != mine {
		all = append(all, system)
	}
	if strings.HasPrefix(sh.hub, "https:") {
		return []string{filepath.Join(hubData, tokenFile)}
	}
	return all
}

// explain adds to an error of the hub what only this program knows: how to give
// it a token, and which function may have been meant.
func (sh *shell) explain(ctx context.Context, err error, function string) error {
	e, ok := errors.AsType[*edge.Error](err)
	if !ok {
		return err
	}
	told := *e
	switch e.Code {
	case edge.Denied:
		told.Hint = "set SEDGE_TOKEN_FILE to the hub's token file; sedge up says at start where that is"
	case edge.NotFound:
		if near := cmp.Or(sh.similar(ctx, function), sh.similarNode(ctx, sh.node)); near != "" {
			told.Hint = "did you mean " + near + "?"
		}
	}
	return &told
}

// similar returns the functions whose names are close to name, or "".
func (sh *shell) similar(ctx context.Context, name string) string {
	if name == "" {
		return ""
	}
	names := sh.functionNames(ctx)
	if slices.Contains(names, name) {
		return "" // it is there: something else was not found
	}
	if near := nearest(name, names); len(near) > 0 {
		return either(near)
	}
	return ""
}

// functionNames returns the functions of the hub, or none if it does not answer
// at once.
func (sh *shell) functionNames(ctx context.Context) []string {
	c, err := sh.client()
	if err != nil {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	all, err := c.Functions(ctx)
	if err != nil {
		return nil
	}
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = f.Name
	}
	return names
}

// completeFunctions completes the argument FUNCTION of a verb.
func (sh *shell) completeFunctions(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 && !strings.Contains(cmd.Use, "FUNCTION...") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return sh.completeNames(cmd, args, typed)
}

// completeNames completes the name of a function.
func (sh *shell) completeNames(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if err := settings.FromEnvironment(cmd.Flags(), sh.lookup); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return sh.functionNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
}

func local(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}
