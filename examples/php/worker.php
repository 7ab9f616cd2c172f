<?php
// A RoadRunner HTTP worker without any library: goridge frames on stdin and stdout (docs/worker-protocol).
// An application would use composer's spiral/roadrunner-http instead, which speaks the same bytes.

function read_exact(int $size): string {
    for ($data = ''; strlen($data) < $size; $data .= $piece) {
        $piece = fread(STDIN, $size - strlen($data));
        if ($piece === '' || $piece === false) exit(0);          // the server is gone
    }
    return $data;
}

function read_frame(): array {
    $head = unpack('Cversion/Cflags/Vlength/Vcrc/Cbits/Creserved', read_exact(12));
    $words = ($head['version'] & 15) - 3;
    $options = $words > 0 ? array_values(unpack('V*', read_exact(4 * $words))) : [];
    return [$head['flags'], $head['bits'], $options, $head['length'] ? read_exact($head['length']) : ''];
}

function write_frame(int $flags, array $options, string $payload): void {
    $start = pack('CCV', 0x10 | (3 + count($options)), $flags, strlen($payload));
    fwrite(STDOUT, $start . pack('VCC', crc32($start), 0, 0) . pack('V*', ...$options) . $payload);
    fflush(STDOUT);
}

function handle(array $request, string $body): array {
    $text = "PHP " . PHP_VERSION . " answers {$request['method']} {$request['uri']}\n";
    if (($request['parsed'] ?? false) && $body !== '') $text .= 'form: ' . $body . "\n";
    foreach ($request['uploads'] ?? [] as $field => $file) $text .= "file {$field}: {$file['name']}, {$file['size']} bytes\n";
    return [200, ['Content-Type' => ['text/plain; charset=utf-8']], $text];
}

while (true) {
    [$flags, $bits, $options, $payload] = read_frame();
    if ($flags & 0x01) {                                         // control: stop, or the handshake
        if (!empty(json_decode($payload, true)['stop'])) exit(0);
        write_frame(0x01, [], json_encode(['pid' => getmypid()]));
    } elseif (!($bits & 0x0A)) {                                 // STOP and PONG may come late: not a request
        [$status, $headers, $text] = handle(json_decode(substr($payload, 0, $options[0]), true), substr($payload, $options[0]));
        $context = json_encode(['status' => $status, 'headers' => $headers]);
        write_frame(0x08, [strlen($context)], $context . $text);
    }
}
