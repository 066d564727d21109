// Command bench measures what the thin client costs beside the bare generated stub: calls a second, and CPU time of this
// process for each call, in alternating rounds over the same settings of TLS.
//
//	go run ./bench --profile court.toml --stage http://127.0.0.1:PORT --calls 2000
//
// It prints one JSON line for each round of either kind. The stage is that of tests/clients/stage.py; the profile, its
// court's.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	recognition "recognition.example/client"
	pb "recognition.example/client/recognitionv1"
)

const (
	rounds   = 5
	inFlight = 8
)

func main() {
	log.SetFlags(0)
	profile := flag.String("profile", "", "profile of the stage's court")
	stage := flag.String("stage", os.Getenv("MRG_STAGE"), "URL of the stage's control port")
	calls := flag.Int("calls", 1_000, "calls in a round")
	flag.Parse()
	if err := run(*profile, *stage, *calls); err != nil {
		log.Fatal(err)
	}
}

func run(profileFile, stage string, calls int) error {
	profile, err := recognition.ReadProfile(profileFile)
	if err != nil {
		return err
	}
	client, err := recognition.Dial(profile)
	if err != nil {
		return err
	}
	defer client.Close()
	connection, err := bare(profile)
	if err != nil {
		return err
	}
	defer connection.Close()
	stub := pb.NewVerificationServiceClient(connection)

	ctx := context.Background()
	var matters map[string]string
	if err := ask(stage+"/matters", nil, &matters); err != nil {
		return err
	}
	matter := matters["court"]
	challenge, err := client.Challenge(ctx, matter)
	if err != nil {
		return err
	}

	kinds := []struct {
		what string
		call func(string) error
	}{
		{"thin", func(assertion string) error {
			decision, err := client.Verify(ctx, recognition.VerifyRequest{Matter: matter, Presentation: assertion})
			if err != nil {
				return err
			}
			if _, ok := decision.Verdict.(recognition.Accepted); !ok {
				return fmt.Errorf("not accepted: %v", decision)
			}
			return nil
		}},
		{"bare", func(assertion string) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			request := &pb.VerifyCredentialRequest{Matter: matter, Presentation: assertion}
			answer, err := stub.VerifyCredential(ctx, request)
			if err != nil {
				return err
			}
			if answer.GetAccepted() == nil {
				return errors.New("not accepted")
			}
			return nil
		}},
	}
	for round := range rounds + 1 {
		for _, kind := range kinds {
			var made map[string][]string
			if err := ask(stage+"/assertions", map[string]any{"audience": challenge.Audience, "count": calls}, &made); err != nil {
				return err
			}
			took, cpu, err := measure(made["assertions"], kind.call)
			if err != nil {
				return err
			}
			if round == 0 {
				continue // warms up
			}
			line, err := json.Marshal(map[string]any{
				"client": "go", "what": kind.what, "calls_per_s": float64(calls) / took.Seconds(),
				"client_cpu_us_per_call": float64(cpu.Microseconds()) / float64(calls),
			})
			if err != nil {
				return err
			}
			fmt.Println(string(line))
		}
	}
	return nil
}

// measure makes a call for each assertion, some at a time, and gives what passed of time and of this process's CPU time.
func measure(assertions []string, call func(string) error) (took, cpu time.Duration, err error) {
	work := make(chan string, len(assertions))
	for _, each := range assertions {
		work <- each
	}
	close(work)
	failures := make(chan error, inFlight)
	var running sync.WaitGroup
	runtime.GC() // of the round before
	begun, cpuBegun := time.Now(), cpuTime()
	for range inFlight {
		running.Add(1)
		go func() {
			defer running.Done()
			for each := range work {
				if err := call(each); err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	running.Wait()
	took, cpu = time.Since(begun), cpuTime()-cpuBegun
	close(failures)
	return took, cpu, <-failures
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// bare connects as a program without the client would.
func bare(profile recognition.Profile) (*grpc.ClientConn, error) {
	pair, err := tls.LoadX509KeyPair(profile.Certificate, profile.PrivateKey)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(profile.CA)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(ca)
	settings := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: authorities}
	return grpc.NewClient("dns:///"+profile.Address, grpc.WithTransportCredentials(credentials.NewTLS(settings)))
}

func ask(url string, body, answer any) error {
	var response *http.Response
	var err error
	if body == nil {
		response, err = http.Get(url)
	} else {
		var encoded []byte
		if encoded, err = json.Marshal(body); err != nil {
			return err
		}
		response, err = http.Post(url, "application/json", bytes.NewReader(encoded))
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
