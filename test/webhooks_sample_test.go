package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sampleStubs are what the controller of deploy/webhooks.md needs of Laravel. The first request
// fails in its second event, the next one is tried again, and the last one is a repeat.
const sampleStubs = `<?php
namespace Illuminate\Http {
    class Request {
        public function __construct(public string $body, public array $headers) {}
        public function getContent() { return $this->body; }
        public function header($name) { return $this->headers[$name] ?? null; }
    }
}
namespace Illuminate\Support\Facades {
    class Cache {
        public static array $kept = [];
        public static function has($key) { return isset(self::$kept[$key]); }
        public static function put($key, $value, $seconds) { self::$kept[$key] = $value; }
    }
}
namespace {
    function config($key) { return 'secret'; }
    function abort_unless($ok, $code) { if (! $ok) { throw new Exception("status $code"); } }
    function event($name, $payload) {
        global $fails;
        if ($fails && $payload[0]['name'] === 'client_event') { throw new Exception('work'); }
        echo $name, ' ', json_encode($payload[0]), "\n";
    }
    require $argv[1];
    $body = '{"time_ms":1,"events":[{"name":"member_added","channel":"presence-a","user_id":" 7 "},'
        .'{"name":"client_event","channel":"presence-a","event":"client-x","data":""}]}';
    foreach ([['secret', true], ['secret', false], ['secret', false], ['other', false]] as $one) {
        [$secret, $fails] = $one;
        try {
            (new App\Http\Controllers\ReverbWebhook)(new Illuminate\Http\Request($body, [
                'X-Pusher-Signature' => hash_hmac('sha256', $body, $secret),
                'X-Reverb-Webhook-Id' => 'b-1']));
            echo "taken\n";
        } catch (Exception $e) {
            echo $e->getMessage(), "\n";
        }
    }
}
`

// TestWebhookSample runs the controller of deploy/webhooks.md: values come as they were sent, a
// request whose work has failed is taken when it comes again, and a repeat does nothing. The other
// samples are valid PHP.
func TestWebhookSample(t *testing.T) {
	t.Parallel()
	need(t, "php")
	b, err := os.ReadFile("../deploy/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	folder, controller := t.TempDir(), ""
	write := func(name, text string) string {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for i, part := range strings.Split(string(b), "```php\n")[1:] {
		sample, _, _ := strings.Cut(part, "```")
		if !strings.HasPrefix(sample, "<?php") {
			sample = "<?php\n" + sample
		}
		file := write("sample"+string(rune('0'+i))+".php", sample)
		if out, err := exec.Command("php", "-l", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", sample, out)
		}
		if strings.Contains(sample, "class ReverbWebhook") {
			controller = file
		}
	}
	out, err := exec.Command("php", write("stubs.php", sampleStubs), controller).CombinedOutput()
	const added = `reverb.member_added {"name":"member_added","channel":"presence-a",` +
		`"user_id":" 7 "}` + "\n"
	const want = added + "work\n" + added + `reverb.client_event {"name":"client_event",` +
		`"channel":"presence-a","event":"client-x","data":""}` + "\ntaken\ntaken\nstatus 401\n"
	if err != nil || string(out) != want {
		t.Errorf("%v: got\n%s\nwant\n%s", err, out, want)
	}
}
