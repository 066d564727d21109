// Command courtdesk is the desk where cases are filed: it asks who stands there before a case is opened.
//
//	echo "case-1 $(cat .lab/try/qian.assertion)" |
//	  go run -C clients/go ./examples/courtdesk --profile ../../.lab/js/clients/court.toml --matter KY-LA --lang en
//
// That is at the root of the repository, with make run in another terminal; README.md tells how the assertion is issued.
// Each line of its input is one filing: the reference of the case, a space, and the assertion with which the person
// signed on. Each gets a line of output. A filing is opened on an acceptance alone. One that was rejected is closed with
// the reason in plain words; one that cannot be decided now, or could not be asked about, stays open, and the person is
// not turned away. The exit code is 0 if all were opened, 1 if any was closed, else 3.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	recognition "recognition.example/client"
)

const (
	allOpened = 0
	anyClosed = 1
	anyLater  = 3
	failed    = 2
)

func main() {
	profile := flag.String("profile", "", "client profile of the court, TOML")
	matter := flag.String("matter", "", "code of the matter")
	language := flag.String("lang", string(recognition.Chinese), "zh or en")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	code, err := run(ctx, *profile, desk{matter: *matter, language: recognition.Language(*language)}, os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func run(ctx context.Context, profileFile string, desk desk, filings io.Reader, out io.Writer) (int, error) {
	profile, err := recognition.ReadProfile(profileFile)
	if err != nil {
		return failed, err
	}
	if desk.client, err = recognition.Dial(profile); err != nil {
		return failed, err
	}
	defer desk.client.Close()

	code := allOpened
	lines := bufio.NewScanner(filings)
	lines.Buffer(nil, 128*1024)
	for lines.Scan() && ctx.Err() == nil {
		reference, assertion, _ := strings.Cut(lines.Text(), " ")
		said := desk.file(ctx, assertion)
		fmt.Fprintf(out, "%s: %s\n", reference, said.line)
		switch {
		case said.code == anyClosed, code == allOpened:
			code = said.code
		}
	}
	return code, lines.Err()
}

// desk files cases of one matter.
type desk struct {
	client   *recognition.Client
	matter   string
	language recognition.Language
}

// answer is what the desk tells the clerk, and what the filing comes to.
type answer struct {
	line string
	code int
}

// file decides about one filing. The question gets a request id of the client's making. The reference of the case would
// not do: whoever files knows it, and under the same id an acceptance may be given once more.
func (d desk) file(ctx context.Context, assertion string) answer {
	decision, err := d.client.Verify(ctx, recognition.VerifyRequest{
		Matter: d.matter, Presentation: assertion, Terminal: "filing-desk",
	})
	if err != nil {
		// There is no verdict. Above all, this is not a rejection.
		return answer{"OPEN " + d.apology(err), anyLater}
	}
	return recognition.Match(decision.Verdict,
		func(accepted recognition.Accepted) answer {
			// Here the case would be opened for accepted.Subject, with accepted.Attributes until accepted.EraseAt: once for a
			// verification id, which is kept beside the reference of the case.
			return answer{"FILED " + decision.VerificationID + d.actor(accepted), allOpened}
		},
		func(rejected recognition.Rejected) answer {
			text := rejected.Reason.Text(d.language)
			return answer{fmt.Sprintf("CLOSED %v %s %s", rejected.Reason, text.What, text.NextStep), anyClosed}
		},
		func(open recognition.Indeterminate) answer {
			text := open.Reason.Text(d.language)
			return answer{fmt.Sprintf("OPEN %v %s %s", open.Reason, text.What, text.NextStep), anyLater}
		},
	)
}

// actor tells the clerk where a lawyer or agent stands there, and not the party.
func (d desk) actor(accepted recognition.Accepted) string {
	if accepted.Actor == nil {
		return ""
	}
	return " (" + accepted.Actor.Relationship + ")"
}

// apology says what to do about an error.
func (d desk) apology(err error) string {
	var overloaded *recognition.Overloaded
	if errors.As(err, &overloaded) {
		return recognition.NextStepRetryLater.Text(d.language)
	}
	var unavailable *recognition.Unavailable
	var late *recognition.DeadlineExceeded
	if errors.As(err, &unavailable) || errors.As(err, &late) {
		return recognition.NextStepRetryLater.Text(d.language)
	}
	// A wrong request, a missing registration, a fault: nothing that the person at the desk could mend.
	return recognition.NextStepCallSupport.Text(d.language) + " (" + err.Error() + ")"
}
