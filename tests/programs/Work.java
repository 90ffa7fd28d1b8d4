// What the JVM does with memory of its own while Java runs: threads, direct buffers, compression, and the
// loading of classes.
// Prints the same everywhere.
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

public class Work {
    static String job(int seed) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (int turn = 0; turn < 40; turn++) {
            int salt = seed * 31 + turn;
            byte[] text = IntStream.range(0, 4000).mapToObj(i -> "line " + (i * salt % 997) + "\n")
                .reduce(new StringBuilder(), StringBuilder::append, StringBuilder::append)
                .toString().getBytes();
            ByteBuffer direct = ByteBuffer.allocateDirect(text.length * 2);
            direct.put(text).flip();
            Deflater deflater = new Deflater();
            deflater.setInput(text);
            deflater.finish();
            byte[] packed = new byte[text.length * 2 + 100];
            int length = deflater.deflate(packed);
            deflater.end();
            Inflater inflater = new Inflater();
            inflater.setInput(packed, 0, length);
            byte[] again = new byte[text.length];
            if (inflater.inflate(again) != text.length || !new String(again).equals(new String(text))) {
                throw new IllegalStateException("not what was packed");
            }
            inflater.end();
            digest.update(direct);
            digest.update(packed, 0, length);
        }
        StringBuilder hex = new StringBuilder();
        for (byte b : digest.digest()) {
            hex.append(String.format("%02x", b));
        }
        return seed + " " + hex;
    }

    public static void main(String[] arguments) throws Exception {
        var pool = Executors.newFixedThreadPool(4);
        List<Future<String>> results = new ArrayList<>();
        for (int seed = 1; seed <= 12; seed++) {
            int given = seed;
            results.add(pool.submit(() -> job(given)));
        }
        for (Future<String> result : results) {
            System.out.println(result.get());
        }
        pool.shutdown();
        for (int i = 0; i < 300; i++) {
            Thread thread = new Thread(() -> ByteBuffer.allocateDirect(10_000));
            thread.start();
            thread.join();
        }
    }
}
