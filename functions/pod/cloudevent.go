package pod

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sedge-iot/sedge/functions"
)

// request returns the event as a CloudEvent 1.0, in HTTP's binary form: its payload is
// the body, the rest in headers.
func request(ctx context.Context, url string, inv functions.Invocation) (*http.Request, error) {
	e := inv.Event
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(e.Payload))
	if err != nil {
		return nil, err
	}
	h := req.Header
	h.Set("Content-Type", contentType(e.Payload))
	h.Set("User-Agent", "sedge")
	h.Set("Ce-Specversion", "1.0")
	h.Set("Ce-Id", escape(e.ID))
	h.Set("Ce-Source", "sedge:"+escape(string(e.Source)))
	h.Set("Ce-Type", "dev.sedge."+escape(string(e.Source)))
	h.Set("Ce-Time", e.Time.UTC().Format(time.RFC3339Nano))
	h.Set("Ce-Attempt", strconv.Itoa(inv.Attempt))
	if e.Topic != "" {
		h.Set("Ce-Subject", escape(e.Topic))
	}
	return req, nil
}

// contentType says what a payload looks like.
func contentType(payload []byte) string {
	switch {
	case json.Valid(payload):
		return "application/json"
	case utf8.Valid(payload):
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// escape writes a value as CloudEvents wants it in a header: what is not printable
// ASCII, and space, quote and per cent, as %XX.
func escape(value string) string {
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; c > ' ' && c < 0x7f && c != '"' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// outcome reads an answer: what was returned, or how the attempt failed. It returns an
// error if the answer did not come to its end.
func outcome(resp *http.Response) ([]byte, *functions.Failure, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, functions.MaxResult+1))
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, refusal(resp.StatusCode, body), nil
	}
	if len(body) > functions.MaxResult {
		return nil, &functions.Failure{Code: functions.CodeResult, Message: fmt.Sprintf("the answer is over %d bytes", functions.MaxResult)}, nil
	}
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return nil, nil, nil
	case json.Valid(trimmed):
		return trimmed, nil, nil
	case !utf8.Valid(body):
		return nil, &functions.Failure{Code: functions.CodeResult, Message: "the answer is neither JSON nor text"}, nil
	}
	text, err := json.Marshal(string(body))
	if err != nil || len(text) > functions.MaxResult {
		return nil, &functions.Failure{Code: functions.CodeResult, Message: fmt.Sprintf("the answer, as JSON, is over %d bytes", functions.MaxResult)}, nil
	}
	return text, nil, nil
}

// refusal sorts the answers that are no success: what the container says of the event
// stays so, whatever else may pass.
func refusal(status int, body []byte) *functions.Failure {
	f := &functions.Failure{Code: functions.CodeThrown, Message: fmt.Sprintf("the container answered %d", status)}
	switch {
	case status >= 300 && status < 400:
		f.Code = functions.CodeResult
		f.Message += ": redirects are not followed"
		return f
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
	case status >= 400 && status < 500:
		f.Code = functions.CodePayload
	}
	const most = 300
	line, _, _ := strings.Cut(strings.ToValidUTF8(string(bytes.TrimSpace(body[:min(len(body), most)])), "\uFFFD"), "\n")
	if line != "" {
		f.Message += ": " + line
	}
	return f
}
